import Container
import FoundationEssentials
import Primitives
import SystemPackage
import Vault

/// What `scrim mark --show` tells of directories and files in a mount.
struct Policies {
  let json: Bool

  private struct Report: Encodable {
    struct Rule: Encodable {
      let pattern: String
      let policy: String
    }

    let path: String
    let content: String
    var names: String?
    var rules: [Rule]?
  }

  /// A directory, and with `recursive` all in it.
  func show(_ place: LivePlace, recursive: Bool) throws {
    var reports: [Report] = []
    try LiveTree.walk(place.folder, place.path, recursive: recursive) { path, entry in
      switch entry {
      case .directory(let folder):
        let report = try describe(folder, path)
        if json { reports.append(report) } else { try write(report, alone: !recursive) }
      case .file: break
      case .unreadable(let error):
        throw Failure(.system, "\(Self.text(path)): \(Output.errnoText(error.rawValue))")
      }
      return recursive
    }
    if json { try write(reports) }
  }

  /// A file.
  func show(_ place: LivePlace, _ name: [UInt8]) throws {
    let node = try Sys.openat(place.folder.rawValue, name, [.path, .noFollow])
    let mode: String
    do throws(Errno) {
      mode = Self.text(try Sys.getxattrPath(node.rawValue, MountAttribute.mode))
    } catch {
      throw Failure(.usage, "\(Self.text(place.path)) is neither a file nor a directory")
    }
    let report = Report(path: Self.text(place.path), content: mode)
    if json { try write([report]) } else { try write(report, alone: true) }
  }

  /// The rules of a directory.
  static func rules(_ folder: SharedFD, _ path: [UInt8]) throws -> [ContentRule] {
    try attribute(MountAttribute.rules, folder, path).split(separator: UInt8(ascii: "\n"))
      .compactMap { line in
        guard let cut = line.lastIndex(of: UInt8(ascii: "=")),
          let policy = ContentPolicy(name: text(Array(line[(cut + 1)...])))
        else { return nil }
        return ContentRule(pattern: Array(line[..<cut]), policy: policy)
      }
  }

  private static func attribute(
    _ name: [UInt8], _ folder: SharedFD, _ path: [UInt8]
  ) throws -> [UInt8] {
    do throws(Errno) {
      return try Sys.fgetxattr(folder.rawValue, name)
    } catch {
      throw Failure(.system, "\(text(path)): \(Output.errnoText(error.rawValue))")
    }
  }

  private func describe(_ folder: SharedFD, _ path: [UInt8]) throws -> Report {
    let policy = Self.text(try Self.attribute(MountAttribute.policy, folder, path))
    let parts = policy.split(separator: ",")
    var report = Report(path: Self.text(path), content: String(parts.first ?? ""))
    report.names = parts.count > 1 ? String(parts[1].dropFirst("names=".count)) : nil
    report.rules = try Self.rules(folder, path).map {
      Report.Rule(pattern: Self.text($0.pattern), policy: $0.policy.name)
    }
    return report
  }

  private func write(_ report: Report, alone: Bool) throws {
    if !alone { try Output.line(StatusText.safe(report.path)) }
    let margin = alone ? "" : "  "
    try Output.line("\(margin)content  \(report.content)")
    if let names = report.names { try Output.line("\(margin)names    \(names)") }
    for rule in report.rules ?? [] {
      try Output.line("\(margin)rule     \(StatusText.safe(rule.pattern))=\(rule.policy)")
    }
  }

  private func write(_ reports: [Report]) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
    try Output.write(Array(try encoder.encode(reports)) + [UInt8(ascii: "\n")])
  }

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}
