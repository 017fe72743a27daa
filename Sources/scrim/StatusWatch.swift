import FoundationEssentials
import Glibc

/// A mount's status once a second until ^C or the end of the mount.
struct StatusWatch {
  let mountpoint: PathArgument
  let json: Bool

  func run() throws {
    guard json || isatty(STDOUT_FILENO) == 1 else {
      throw Failure(
        .usage, "--watch needs a terminal to draw on; with --json it prints a line each second")
    }
    var signals = sigset_t()
    sigemptyset(&signals)
    for signal in [SIGINT, SIGTERM] { sigaddset(&signals, signal) }
    sigprocmask(SIG_BLOCK, &signals, nil)
    var before: (report: MountPointReport, time: timespec)?
    repeat {
      let status = try MountAttribute.readStatus(of: mountpoint)
      if json {
        try Output.write(status + [UInt8(ascii: "\n")])
      } else {
        guard let report = try? JSONDecoder().decode(MountPointReport.self, from: Data(status))
        else {
          throw Failure(
            .system, "the daemon of \(mountpoint.text) is of another version; use --json")
        }
        let now = Self.now()
        let rates = before.map { Rates(from: $0.report, to: report, Self.seconds($0.time, now)) }
        try draw(report, rates ?? Rates(from: report, to: report, 1))
        before = (report, now)
      }
    } while !Self.waitOneSecond(signals)
  }

  /// True when a signal asked to end.
  private static func waitOneSecond(_ signals: sigset_t) -> Bool {
    var signals = signals
    var second = timespec(tv_sec: 1, tv_nsec: 0)
    while true {
      if sigtimedwait(&signals, nil, &second) > 0 { return true }
      if errno != EINTR { return false }
    }
  }

  /// Over the last picture, without a flicker: each line's rest is cleared, and what is below the last.
  private func draw(_ report: MountPointReport, _ rates: Rates) throws {
    var size = winsize()
    let isKnown = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
    let (rows, columns) = isKnown ? (Int(size.ws_row), Int(size.ws_col)) : (24, 80)
    let lines = WatchText.lines(report, rates, width: columns)
    let shown = lines.prefix(max(rows - 1, 1)).map { $0.prefix(columns) + "\u{1B}[K\n" }
    try Output.write(Array(("\u{1B}[H" + shown.joined() + "\u{1B}[J").utf8))
  }

  private static func now() -> timespec {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time
  }

  private static func seconds(_ from: timespec, _ to: timespec) -> Double {
    Double(to.tv_sec - from.tv_sec) + Double(to.tv_nsec - from.tv_nsec) / 1e9
  }
}

/// What happened between two looks at a mount, a second.
struct Rates {
  struct Mode {
    let name: String
    let opens: Double
    let reads: Double
    let writes: Double
    let bytesRead: Double
    let bytesWritten: Double
  }

  let modes: [Mode]

  /// All modes together.
  var total: Mode {
    func sum(_ rate: KeyPath<Mode, Double>) -> Double { modes.reduce(0) { $0 + $1[keyPath: rate] } }
    return Mode(
      name: "all", opens: sum(\.opens), reads: sum(\.reads), writes: sum(\.writes),
      bytesRead: sum(\.bytesRead), bytesWritten: sum(\.bytesWritten))
  }

  init(from old: MountPointReport, to new: MountPointReport, _ seconds: Double) {
    modes = zip(StatusText.modes(old), StatusText.modes(new)).map { before, after in
      func rate(_ counter: KeyPath<MountPointReport.Counters, UInt64>) -> Double {
        // Another mount may have taken the place: its counters begin at zero.
        let (old, new) = (before.1[keyPath: counter], after.1[keyPath: counter])
        return new >= old ? Double(new - old) / max(seconds, 0.001) : 0
      }
      return Mode(
        name: after.0, opens: rate(\.opens), reads: rate(\.reads), writes: rate(\.writes),
        bytesRead: rate(\.bytesRead), bytesWritten: rate(\.bytesWritten))
    }
  }
}

/// The live view as text.
enum WatchText {
  static func lines(_ report: MountPointReport, _ rates: Rates, width: Int) -> [String] {
    var lines = [
      shortened("vault        \(StatusText.safe(report.vault))", to: width),
      shortened("mounted on   \(StatusText.safe(report.mountpoint))", to: width),
      "passthrough  "
        + StatusText.withReason(report.passthrough.state, report.passthrough.reason),
      "transport    " + StatusText.withReason(report.transport.kind, report.transport.reason),
      "damage       \(report.integrityFailures ?? 0) found since the mount",
      "",
      StatusText.row("a second", ["opens", "reads", "writes", "read", "written"]),
    ]
    lines += (rates.modes + [rates.total]).map { mode in
      StatusText.row(
        mode.name,
        [mode.opens, mode.reads, mode.writes].map { "\(UInt64($0.rounded()))" }
          + [mode.bytesRead, mode.bytesWritten].map { StatusText.bytes(UInt64($0.rounded())) })
    }
    lines += [
      "", "opens of plain files served by the kernel: \(share(report))",
      "backing files lent to the kernel now: \(report.passthrough.backingFiles ?? 0)",
      "files and directories known to the kernel: \(report.inodes ?? 0)",
      "open files   \(report.openFilesTotal ?? report.openFiles.count)",
    ]
    lines += report.openFiles.map { file in
      let how = " (\(file.mode), \(file.opens))"
      return shortened("  \(StatusText.safe(file.path))", to: width - how.count) + how
    }
    return lines
  }

  /// The end of a path tells more than its middle.
  private static func shortened(_ text: String, to width: Int) -> String {
    guard text.count > width, width > 20 else { return text }
    return "\(text.prefix(width / 3)) … \(text.suffix(width - width / 3 - 3))"
  }

  private static func share(_ report: MountPointReport) -> String {
    let (opens, all) = (report.passthrough.opens, report.plain.opens)
    guard all > 0 else { return "none yet" }
    return "\(min(opens, all) * 100 / all) % (\(opens) of \(all))"
  }
}
