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
    for line in StatusText.lines(report) { try Output.line(line) }
  }
}

/// The status as text for people.
enum StatusText {
  static func lines(_ report: MountPointReport) -> [String] {
    var lines = [
      "vault        \(safe(report.vault))",
      "mounted on   \(safe(report.mountpoint)) (\(report.readOnly ? "read-only" : "read-write"), "
        + "process \(report.pid))",
      "passthrough  " + withReason(report.passthrough.state, report.passthrough.reason),
      "transport    " + withReason(report.transport.kind, report.transport.reason),
      "",
      row("mode", ["opens", "reads", "writes", "read", "written"]),
    ]
    lines += modes(report).map { name, counters in
      row(
        name,
        [
          "\(counters.opens)", "\(counters.reads)", "\(counters.writes)",
          bytes(counters.bytesRead), bytes(counters.bytesWritten),
        ])
    }
    lines += [
      "",
      "kernel-passthrough opens \(report.passthrough.opens), plain requests that came to the daemon: "
        + "\(report.plain.userspaceReads ?? 0) reads, \(report.plain.userspaceWrites ?? 0) writes",
      "",
      "open files   \(report.openFilesTotal ?? report.openFiles.count)",
    ]
    lines += report.openFiles.map { file in
      "  \(safe(file.path)) (\(file.mode), \(file.opens)) -> \(safe(file.backing))"
    }
    return lines
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

  static func row(_ name: String, _ columns: [String]) -> String {
    columns.reduce(name.padded(to: 18)) { $0 + $1.leftPadded(to: 11) }
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
        text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? "?" : $0 }))
  }
}

extension String {
  func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }

  func leftPadded(to width: Int) -> String {
    String(repeating: " ", count: max(1, width - count)) + self
  }
}
