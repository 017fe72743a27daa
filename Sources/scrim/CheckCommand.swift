import ArgumentParser
import FoundationEssentials
import Glibc
import Logging
import Vault

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Look for damage in a vault, and repair what can be repaired.",
    discussion: """
      Nothing is changed without --repair, and nothing is ever deleted: what is in the way goes to \
      a folder lost+found-… in the vault's folder.
      """)

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @Argument(help: "Check only what is at this path, from the vault's root.")
  var path: PathArgument?

  @Flag(help: "Read and verify every block.")
  var deep = false

  @Flag(help: "Repair, move aside, and save what can be read of damaged files.")
  var repair = false

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  @OptionGroup var secrets: SecretOptions

  func run() throws {
    _ = try vault.inspectVault()
    let secret = try secrets.secret(for: vault)
    let options = CheckOptions(
      isDeep: deep, repairs: repair, lostAndFound: "lost+found-\(CheckOutput.timestamp())")
    // Everything a log line would say is a finding here, and with its path.
    let silent = Logger(label: "scrim.check") { _ in SwiftLogNoOpLogHandler() }
    let checked = try Patience.during("opening the vault") { () throws(Failure) in
      let writer = LeavingWriter(vault, advice: "unmount it first, or check without --repair")
      do throws(VaultError) {
        return try Vault.openForCheck(
          at: vault.text, secret: secret, options: options, logger: silent,
          isLeaving: writer.isLeaving)
      } catch {
        throw writer.failure(error)
      }
    }
    let output = CheckOutput(self, checked)
    for finding in checked.findings { output.add(finding) }
    if let writer = checked.writer {
      Output.complain(
        "the vault is open for writing by \(writer): what changes meanwhile may be reported")
    }
    let checker = Checker(
      checked, options: options, report: { output.add($0) }, advance: { output.advance($0) })
    if let checker {
      output.total = output.showsProgress ? checker.measure(names) : nil
      try checker.run(names)
    }
    output.finishLine()
    try checked.vault?.close()
    try output.finish(checker?.progress ?? CheckProgress())
  }

  private var names: [[UInt8]] {
    let parts = path?.bytes.split(separator: UInt8(ascii: "/")).map { Array($0) } ?? []
    return parts.filter { $0 != [UInt8(ascii: ".")] }
  }
}

/// Prints findings as they come, or gathers them for JSON, and draws the progress on a terminal.
private final class CheckOutput {
  let showsProgress = ProgressLine.isPossible
  /// What the whole check has to go through.
  var total: CheckProgress?

  private let command: CheckCommand
  private let writer: String?
  private var findings: [CheckedItem] = []
  private var worst: CheckSeverity?
  private var isAllRepaired = true
  private var failure: Failure?
  private let started = monotonic()
  private var drawn = 0.0
  private var line = ProgressLine()

  init(_ command: CheckCommand, _ checked: CheckedVault) {
    self.command = command
    writer = checked.writer
  }

  func add(_ finding: CheckFinding) {
    let item = CheckedItem(finding)
    if finding.severity != .note {
      worst = max(worst ?? finding.severity, finding.severity)
      if finding.severity == .damage, !item.repaired { isAllRepaired = false }
    }
    if command.json { return findings.append(item) }
    finishLine()
    do throws(Failure) {
      try Output.write(item.line)
    } catch {
      failure = error
    }
  }

  // MARK: Progress

  func advance(_ progress: CheckProgress) {
    guard showsProgress else { return }
    let now = Self.monotonic()
    guard now - drawn >= 0.2 else { return }
    drawn = now
    let elapsed = max(now - started, 0.001)
    var text = "\(progress.entries) entries"
    if command.deep {
      let rate = StatusText.bytes(UInt64(Double(progress.bytes) / elapsed))
      text += ", \(StatusText.bytes(progress.bytes)), \(rate)/s"
    } else {
      text += ", \(Int(Double(progress.entries) / elapsed))/s"
    }
    if let share = share(progress), share > 0.01 {
      let left = Int(elapsed / share - elapsed)
      text += ", \(Int(share * 100)) %, \(left / 60):\(Self.twoDigits(left % 60)) left"
    }
    line.draw(text)
  }

  private func share(_ progress: CheckProgress) -> Double? {
    guard let total else { return nil }
    let (done, all) =
      command.deep && total.bytes > 0
      ? (progress.bytes, total.bytes) : (progress.entries, total.entries)
    return all == 0 ? nil : min(1, Double(done) / Double(all))
  }

  func finishLine() { line.clear() }

  private static func monotonic() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1_000_000_000
  }

  // MARK: The end

  func finish(_ progress: CheckProgress) throws {
    if let failure { throw failure }
    if command.json {
      try Output.json(
        CheckedVaultReport(
          vault: command.vault.text, deep: command.deep, repair: command.repair, writer: writer,
          directories: progress.directories, files: progress.files, bytes: progress.bytes,
          findings: findings))
    } else {
      let read = command.deep ? ", \(StatusText.bytes(progress.bytes)) read" : ""
      try Output.line("\(progress.directories) directories, \(progress.files) files\(read)")
    }
    switch worst {
    case .damage where !isAllRepaired: throw Exit.damaged.code
    case .damage, .harmless: throw Exit.checked.code
    case .note, nil: return
    }
  }

  /// Local time for a folder's name, such as 20240601-134501.
  static func timestamp() -> String {
    var seconds = time(nil)
    var parts = tm()
    localtime_r(&seconds, &parts)
    let date = [parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday].map { twoDigits(Int($0)) }
    let clock = [parts.tm_hour, parts.tm_min, parts.tm_sec].map { twoDigits(Int($0)) }
    return date.joined() + "-" + clock.joined()
  }

  private static func twoDigits(_ number: Int) -> String {
    number < 10 ? "0\(number)" : "\(number)"
  }
}

/// One line of `scrim check`, one object of `scrim check --json`.
private struct CheckedItem: Encodable {
  let severity: String
  let path: String?
  let pathBase64: String?
  let reason: String
  let repaired: Bool
  let repair: String?

  private enum CodingKeys: CodingKey {
    case severity, path, pathBase64, reason, repaired, repair
  }

  private let bytes: [UInt8]

  init(_ finding: CheckFinding) {
    severity =
      switch finding.severity {
      case .note: "note"
      case .harmless: "harmless"
      case .damage: "damage"
      }
    bytes = finding.path
    path = String(validating: finding.path, as: UTF8.self)
    pathBase64 = path == nil ? Data(finding.path).base64EncodedString() : nil
    reason = finding.reason
    switch finding.outcome {
    case .left: (repaired, repair) = (false, nil)
    case .repaired(let text): (repaired, repair) = (true, text)
    case .failed(let text): (repaired, repair) = (false, text)
    }
  }

  /// The line, in which no name can begin another one.
  var line: [UInt8] {
    var text = Array("\(severity): ".utf8)
    text += path.map { Array(StatusText.safe($0).utf8) } ?? bytes
    text += Array(": \(reason)".utf8)
    if let repair {
      text += Array("; \(repaired ? "repaired" : "not repaired"): \(repair)".utf8)
    }
    let rest = text.dropFirst(severity.utf8.count).map {
      $0 < 32 || $0 == 127 ? UInt8(ascii: "?") : $0
    }
    let colour: Colour? =
      switch severity {
      case "damage": repaired ? .yellow : .red
      case "harmless": .yellow
      default: nil
      }
    return Array((colour?.paint(severity) ?? severity).utf8) + rest + [UInt8(ascii: "\n")]
  }
}

/// What `scrim check --json` prints.
private struct CheckedVaultReport: Encodable {
  let vault: String
  let deep: Bool
  let repair: Bool
  let writer: String?
  let directories: UInt64
  let files: UInt64
  let bytes: UInt64
  let findings: [CheckedItem]
}
