import ArgumentParser
import Glibc

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Check what this machine offers: what mounts need, and what makes them fast.",
    discussion: "Ends with 14 where something is missing without which nothing can be mounted.")

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  func run() throws {
    let findings = Examination().findings
    if json {
      try Output.json(findings)
    } else {
      let width = Screen.size(STDOUT_FILENO)?.columns
      for finding in findings { try Output.line(finding.text(width: width)) }
    }
    let lacking = findings.filter { $0.needed && !$0.ok }.map(\.name)
    guard lacking.isEmpty else {
      throw Failure(
        .mountFailed,
        "nothing can be mounted here by this user: \(lacking.joined(separator: ", ")) missing")
    }
  }
}

/// One thing that was looked at.
struct Finding: Encodable {
  let name: String
  let ok: Bool
  /// Whether nothing can be mounted without it.
  let needed: Bool
  /// What was found.
  let detail: String
  /// How to get it; nil where it is there.
  let remedy: String?

  init(_ name: String, _ ok: Bool, needed: Bool = false, _ detail: String, remedy: String) {
    self.name = name
    self.ok = ok
    self.needed = needed
    self.detail = detail
    self.remedy = ok ? nil : remedy
  }

  /// As one line, or two where something is missing; more where they are wider than the terminal.
  func text(width: Int?) -> String {
    let margin = 24
    let word = ok ? "ok" : "missing"
    let line = word.padded(to: 9) + name.padded(to: 15) + StatusText.safe(detail)
    let blanks = String(repeating: " ", count: margin)
    let lines = [line] + (remedy.map { [blanks + StatusText.safe($0)] } ?? [])
    let text = lines.map { $0.wrapped(to: width, indent: margin) }.joined(separator: "\n")
    let colour: Colour = ok ? .green : needed ? .red : .yellow
    return colour.paint(word) + text.dropFirst(word.count)
  }
}
