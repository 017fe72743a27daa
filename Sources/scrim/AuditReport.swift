import Container
import FoundationEssentials

/// The result of an audit as text and as JSON.
enum AuditReport {
  /// What matters most, in one sentence.
  static func sentence(_ root: AuditNode) -> String {
    let plain = (root.all[.plain]?.files ?? 0) + (root.all[.compressed]?.files ?? 0)
    return "Without a key \(plain) of \(root.files) files can be read "
      + "(\(StatusText.bytes(root.readableBytes)) of \(StatusText.bytes(root.bytes)), "
      + "\(percent(root.readableBytes, of: root.bytes))), \(root.readableNames) of \(root.entries) names, "
      + "\(root.readableTargets) of \(root.links) link targets."
  }

  static func percent(_ part: UInt64, of whole: UInt64) -> String {
    guard whole > 0 else { return "0 %" }
    let share = Double(part) / Double(whole) * 100
    return part > 0 && share < 1 ? "< 1 %" : "\(Int(share.rounded())) %"
  }

  /// Calls for each directory, outer ones first.
  static func walk(_ root: AuditNode, _ visit: (AuditNode, _ path: String, _ depth: Int) -> Void) {
    func enter(_ node: AuditNode, _ path: String, _ depth: Int) {
      visit(node, path.isEmpty ? "/" : path, depth)
      for child in node.children {
        enter(child, "\(path)/\(AuditPage.name(child.name))", depth + 1)
      }
    }
    enter(root, "", 0)
  }

  // MARK: Text

  /// Lines for people; directories down to a depth, and plain files in them.
  static func lines(_ root: AuditNode, depth limit: Int) -> [String] {
    var lines = [sentence(root), ""]
    for policy in ContentPolicy.allCases {
      guard let share = root.all[policy], share.files > 0 else { continue }
      lines.append(
        policy.name.padded(to: 18) + "\(share.files)".leftPadded(to: 9)
          + StatusText.bytes(share.bytes).leftPadded(to: 12)
          + percent(share.bytes, of: root.bytes).leftPadded(to: 7))
    }
    lines += [
      "", "readable" + "files".leftPadded(to: 9) + "size".leftPadded(to: 12) + "  directory",
    ]
    walk(root) { node, path, depth in
      guard depth <= limit else { return }
      let margin = String(repeating: "  ", count: depth)
      let name = depth == 0 ? "/" : AuditPage.name(node.name)
      let note = [node.policy.map { $0.content.name }, node.state, node.problem].compactMap { $0 }
      lines.append(
        percent(node.readableBytes, of: node.bytes).leftPadded(to: 8)
          + "\(node.files)".leftPadded(to: 9) + StatusText.bytes(node.bytes).leftPadded(to: 12)
          + "  \(margin)\(name)" + (note.isEmpty ? "" : "  (\(note.joined(separator: ", ")))"))
      for file in node.plainFiles.prefix(5) {
        lines.append(
          "100 %".leftPadded(to: 8) + "1".leftPadded(to: 9)
            + StatusText.bytes(file.bytes).leftPadded(to: 12)
            + "  \(margin)  \(AuditPage.name(file.name))")
      }
      if node.plainFiles.count > 5 {
        lines.append(
          String(repeating: " ", count: 29)
            + "  \(margin)  and \(node.plainFiles.count - 5) more plain files")
      }
    }
    return lines
  }

  // MARK: JSON

  private struct Node: Encodable {
    struct Share: Encodable {
      let files: UInt64
      let bytes: UInt64
    }

    struct File: Encodable {
      let name: String
      var nameBase64: String?
      let bytes: UInt64
    }

    let name: String
    var nameBase64: String?
    let files: UInt64
    let bytes: UInt64
    let readableBytes: UInt64
    let entries: UInt64
    let readableNames: UInt64
    let links: UInt64
    let readableTargets: UInt64
    let modes: [String: Share]
    let plainFiles: [File]
    let directories: [Node]
    let content: String?
    let names: String?
    let rules: Int?
    let unconverted: UInt64?
    let state: String?
    let problem: String?

    init(_ node: AuditNode) {
      (name, nameBase64) = Self.text(node.name)
      (files, bytes, readableBytes) = (node.files, node.bytes, node.readableBytes)
      (entries, readableNames) = (node.entries, node.readableNames)
      (links, readableTargets) = (node.links, node.readableTargets)
      modes = node.all.reduce(into: [:]) {
        $0[$1.key.name] = Share(files: $1.value.files, bytes: $1.value.bytes)
      }
      plainFiles = node.plainFiles.map {
        let (name, base64) = Self.text($0.name)
        return File(name: name, nameBase64: base64, bytes: $0.bytes)
      }
      directories = node.children.map { Node($0) }
      content = node.policy?.content.name
      names = node.policy?.names
      rules = node.policy?.rules
      unconverted = node.policy?.unconverted
      state = node.state
      problem = node.problem
    }

    private static func text(_ bytes: [UInt8]) -> (String, String?) {
      let isText = String(validating: bytes, as: UTF8.self) != nil
      return (
        String(decoding: bytes, as: UTF8.self), isText ? nil : Data(bytes).base64EncodedString()
      )
    }
  }

  private struct Report: Encodable {
    let vault: String
    let view: String
    let root: Node
  }

  static func json(_ root: AuditNode, vault: String, isOwner: Bool) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
    let report = Report(vault: vault, view: isOwner ? "owner" : "stranger", root: Node(root))
    return Array(try encoder.encode(report)) + [UInt8(ascii: "\n")]
  }
}
