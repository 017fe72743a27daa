import FoundationEssentials
import Glibc

/// A mount's status once a second until ^C or the end of the mount.
struct StatusWatch {
  let mountpoint: PathArgument
  let json: Bool

  func run() throws {
    guard json || Screen.canDraw(STDOUT_FILENO) else {
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
    let (rows, columns) = Screen.size(STDOUT_FILENO) ?? (24, 80)
    let lines = WatchText.lines(report, rates, width: columns, rows: rows - 1)
    let shown = lines.prefix(max(rows - 1, 1)).map { $0.fitted(to: columns) + "\u{1B}[K\n" }
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

  struct Cache {
    let hits: Double
    let misses: Double
  }

  let modes: [Mode]
  let requests: Double
  /// Nil where the daemon does not tell.
  let blocks: Cache?
  let names: Cache?

  /// All modes together.
  var total: Mode {
    func sum(_ rate: KeyPath<Mode, Double>) -> Double { modes.reduce(0) { $0 + $1[keyPath: rate] } }
    return Mode(
      name: "all", opens: sum(\.opens), reads: sum(\.reads), writes: sum(\.writes),
      bytesRead: sum(\.bytesRead), bytesWritten: sum(\.bytesWritten))
  }

  init(from old: MountPointReport, to new: MountPointReport, _ seconds: Double) {
    // Another mount may have taken the place: its counters begin at zero.
    func rate(_ old: UInt64, _ new: UInt64) -> Double {
      new >= old ? Double(new - old) / max(seconds, 0.001) : 0
    }
    modes = zip(StatusText.modes(old), StatusText.modes(new)).map { before, after in
      func counted(_ counter: KeyPath<MountPointReport.Counters, UInt64>) -> Double {
        rate(before.1[keyPath: counter], after.1[keyPath: counter])
      }
      return Mode(
        name: after.0, opens: counted(\.opens), reads: counted(\.reads),
        writes: counted(\.writes), bytesRead: counted(\.bytesRead),
        bytesWritten: counted(\.bytesWritten))
    }
    requests = rate(old.requests ?? 0, new.requests ?? 0)
    func cache(_ which: KeyPath<MountPointReport.Caches, MountPointReport.Cache>) -> Cache? {
      guard let before = old.caches?[keyPath: which], let after = new.caches?[keyPath: which] else {
        return nil
      }
      return Cache(hits: rate(before.hits, after.hits), misses: rate(before.misses, after.misses))
    }
    blocks = cache(\.blocks)
    names = cache(\.names)
  }
}
