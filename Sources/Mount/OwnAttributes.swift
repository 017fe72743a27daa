import Container
import Glibc
import Primitives
import SystemPackage
import Vault

/// A directory's policies as text: `CONTENT`, or `CONTENT,names=NAMES`.
struct PolicyText: Equatable {
  var content: ContentPolicy?
  var names: NamePolicy?

  init(content: ContentPolicy?, names: NamePolicy?) {
    self.content = content
    self.names = names
  }

  /// Nil for anything that is not such a text. A trailing zero byte or newline is forgiven, since
  /// tools add them.
  init?(_ bytes: [UInt8]) {
    var text = bytes[...]
    while let last = text.last, last == 0 || last == UInt8(ascii: "\n") { text.removeLast() }
    guard !text.isEmpty else { return nil }
    for part in text.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
      let word = String(decoding: part, as: UTF8.self)
      if word.hasPrefix("names=") {
        guard names == nil, let policy = NamePolicy(name: String(word.dropFirst(6))) else {
          return nil
        }
        names = policy
      } else {
        guard content == nil, let policy = ContentPolicy(name: word) else { return nil }
        content = policy
      }
    }
  }

  /// Both parts, as `scrim mark` shows them.
  var text: String {
    [content?.name, names.map { "names=\($0.name)" }].compactMap(\.self).joined(separator: ",")
  }
}

/// A directory's rules as text: `PATTERN=POLICY`, a line each.
struct RulesText {
  let rules: [ContentRule]

  init(_ rules: [ContentRule]) { self.rules = rules }

  /// Nil for anything that is not such a text. No byte at all is no rule.
  init?(_ bytes: [UInt8]) {
    var rules: [ContentRule] = []
    for line in bytes.split(whereSeparator: { $0 == UInt8(ascii: "\n") || $0 == 0 }) {
      guard let cut = line.lastIndex(of: UInt8(ascii: "=")),
        let policy = ContentPolicy(name: String(decoding: line[(cut + 1)...], as: UTF8.self)),
        let rule = ContentRule(pattern: Array(line[..<cut]), policy: policy)
      else { return nil }
      rules.append(rule)
    }
    self.rules = rules
  }

  var bytes: [UInt8] {
    rules.flatMap { $0.pattern + Array("=\($0.policy.name)\n".utf8) }
  }
}

/// Attributes that are not stored but answered: how a mount is asked and told things.
extension FileSystem {
  func ownAttribute(_ inode: Inode, _ name: [UInt8]) throws -> [UInt8] {
    switch String(decoding: name, as: UTF8.self) {
    case "user.scrim.status":
      guard inode === table.root else { throw MountFailure.noAttribute }
      return statusJSON()
    case "user.scrim.policy":
      let directory = try policyDirectory(inode)
      let policy = PolicyText(content: directory.contentPolicy, names: directory.namePolicy)
      return [UInt8](policy.text.utf8)
    case "user.scrim.rules":
      return RulesText(try policyDirectory(inode).record.rules).bytes
    case "user.scrim.names":
      return [UInt8](try policyDirectory(inode).namePolicy.name.utf8)
    case "user.scrim.mode": return [UInt8](try modeName(inode).utf8)
    case "user.scrim.path":
      return try withNode(inode) { Self.backingPathBytes($0) }
    case let other:
      guard other.hasPrefix(Self.conversionPrefix),
        let id = UInt64(other.dropFirst(Self.conversionPrefix.count)),
        let state = conversions.state(id)
      else { throw MountFailure.noAttribute }
      return [UInt8](state.utf8)
    }
  }

  /// A number after it names a conversion, whose state the value is.
  private static let conversionPrefix = "user.scrim.convert."

  func setOwnAttribute(
    _ inode: Inode, _ name: [UInt8], _ value: [UInt8], _ caller: Caller
  ) throws {
    guard inode.mode == .directory else { throw MountFailure.notADirectory }
    let policy: PolicyText
    switch String(decoding: name, as: UTF8.self) {
    case "user.scrim.policy":
      guard let parsed = PolicyText(value) else { throw MountFailure.invalid }
      policy = parsed
    case "user.scrim.names":
      guard let parsed = PolicyText(Array("names=".utf8) + value), parsed.content == nil else {
        throw MountFailure.invalid
      }
      policy = parsed
    case "user.scrim.rules":
      guard let rules = RulesText(value) else { throw MountFailure.invalid }
      return try directory(inode).setPolicy(rules: rules.rules)
    case "user.scrim.convert": return try requestConversion(inode, value, caller)
    default: throw Errno.notPermitted
    }
    let directory = try directory(inode)
    try directory.setPolicy(content: policy.content, names: policy.names)
    note(visibilityOf: directory, inode)
  }

  private func policyDirectory(_ inode: Inode) throws -> VaultDirectory {
    guard inode.mode == .directory else { throw MountFailure.noAttribute }
    return try directory(inode)
  }

  /// How the content of an inode is stored.
  private func modeName(_ inode: Inode) throws -> String {
    switch inode.mode {
    case .plain: return ContentPolicy.plain.name
    case .container:
      return try withFile(inode, writable: false) { file in
        guard let container = file.sharedContainer() else { throw MountFailure.stale }
        return container.policy.name
      }
    case .directory, .symbolicLink, .longLink, .special: throw MountFailure.noAttribute
    }
  }
}
