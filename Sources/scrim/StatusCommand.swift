import ArgumentParser
import FoundationEssentials
import Glibc

struct StatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "What a mount is doing: passthrough, open files, counters.")

  @Argument(help: "Where the vault is mounted.")
  var mountpoint: PathArgument

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  @Flag(help: "Show it anew each second, with rates, until ^C; with --json a line each second.")
  var watch = false

  func run() throws {
    if watch { return try StatusWatch(mountpoint: mountpoint, json: json).run() }
    let status = try MountAttribute.readStatus(of: mountpoint)
    if json {
      try Output.write(status + [UInt8(ascii: "\n")])
      return
    }
    guard let report = try? JSONDecoder().decode(MountPointReport.self, from: Data(status)) else {
      throw Failure(
        .system, "the daemon of \(mountpoint.text) is of another version; use --json")
    }
    let width = Screen.size(STDOUT_FILENO)?.columns
    for line in StatusText.lines(report, width: width) { try Output.line(line) }
  }
}

/// The status as text for people.
enum StatusText {
  /// For a terminal of a width; nil where the lines may have any length.
  static func lines(_ report: MountPointReport, width: Int?) -> [String] {
    let row = TableRow(width: width)
    var lines =
      [
        "vault        \(safe(report.vault))",
        "mounted on   \(safe(report.mountpoint)) (\(report.readOnly ? "read-only" : "read-write"), "
          + "process \(report.pid))",
      ] + paths(report).map { $0.wrapped(to: width, indent: 13) }
    lines += ["", row.text("mode", ["opens", "reads", "writes", "read", "written"])]
    lines += modes(report).map { name, counters in
      row.text(
        name,
        [counters.opens, counters.reads, counters.writes].map(row.count)
          + [counters.bytesRead, counters.bytesWritten].map(row.bytes))
    }
    lines += [""]
    lines += [
      "opens of plain files that the kernel serves: \(report.passthrough.opens)",
      "requests for plain files that came to the daemon: \(report.plain.userspaceReads ?? 0) reads, "
        + "\(report.plain.userspaceWrites ?? 0) writes",
    ].map { $0.wrapped(to: width, indent: 2) }
    if let caches = report.caches {
      lines += [("blocks", caches.blocks), ("names", caches.names)].map { what, cache in
        "found in memory: \(what) ".padded(to: 24)
          + share(cache.hits, of: cache.hits + cache.misses)
      }
    }
    lines += ["", "open files   \(report.openFilesTotal ?? report.openFiles.count)"]
    lines += report.openFiles.map { file in
      let (name, backing) = (
        "  \(safe(file.path)) (\(file.mode), \(file.opens))", "-> \(safe(file.backing))"
      )
      return name.columns + 1 + backing.columns > width ?? .max
        ? "\(name)\n    \(backing)" : "\(name) \(backing)"
    }
    return lines
  }

  /// The ways that requests and content take.
  static func paths(_ report: MountPointReport) -> [String] {
    [
      "passthrough  " + withReason(report.passthrough.state, report.passthrough.reason),
      "transport    " + withReason(report.transport.kind, report.transport.reason),
    ]
  }

  /// `97 % (97 of 100)`.
  static func share(_ part: UInt64, of whole: UInt64) -> String {
    guard whole > 0 else { return "none yet" }
    let part = min(part, whole)
    return "\(Int(Double(part) / Double(whole) * 100)) % (\(part) of \(whole))"
  }

  static func modes(_ report: MountPointReport) -> [(String, MountPointReport.Counters)] {
    [
      ("plain", report.plain), ("sealed", report.sealed), ("compressed", report.compressed),
      ("sealed-compressed", report.sealedCompressed),
    ]
  }

  static func withReason(_ what: String, _ reason: String?) -> String {
    guard let reason, !reason.isEmpty else { return what }
    return "\(what): \(reason)"
  }

  /// Bytes in the largest unit that leaves at least one, with a digit after the point.
  static func bytes(_ count: UInt64) -> String {
    var value = Double(count)
    var units = ["B", "KiB", "MiB", "GiB", "TiB"][...]
    while value >= 1024, units.count > 1 {
      value /= 1024
      units = units.dropFirst()
    }
    let unit = units.first ?? "B"
    return unit == "B" ? "\(count) B" : "\((value * 10).rounded() / 10) \(unit)"
  }

  /// Without control characters, which could drive the terminal.
  static func safe(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { $0.isUnsafe ? "?" : $0 }))
  }
}

/// A line of the table of modes, narrower on a narrow terminal.
struct TableRow {
  private let isNarrow: Bool

  init(width: Int?) { isNarrow = (width ?? 80) < 74 }

  func text(_ name: String, _ columns: [String]) -> String {
    guard isNarrow else {
      return columns.reduce(name.padded(to: 18)) { $0 + $1.leftPadded(to: 11) }
    }
    let name = name.replacing("compressed", with: "compr.")
    return columns.reduce(name.padded(to: 13)) { $0 + $1.leftPadded(to: 7) }
  }

  /// At most six digits on a narrow terminal.
  func count(_ number: UInt64) -> String {
    guard isNarrow, number >= 1_000_000 else { return "\(number)" }
    return number < 1_000_000_000 ? "\(number / 1_000_000)M" : "\(number / 1_000_000_000)G"
  }

  func bytes(_ number: UInt64) -> String {
    let text = StatusText.bytes(number)
    guard isNarrow, let unit = text.split(separator: " ").last else { return text }
    return "\(text.prefix { $0 != " " })\(unit.prefix(1))"
  }
}

extension String {
  func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - columns))
  }

  func leftPadded(to width: Int) -> String {
    String(repeating: " ", count: max(1, width - columns)) + self
  }
}
