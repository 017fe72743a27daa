public import Container
import Primitives
import SystemPackage

/// Kinds of entries that may exist in a directory besides those its policy makes (format §5).
public struct PresenceFlags: OptionSet, Sendable, Hashable {
  /// The bits as stored.
  public let rawValue: UInt16

  /// Takes the bits as stored.
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// Plain files.
  public static let plainFiles = PresenceFlags(rawValue: 1)
  /// Containers.
  public static let containers = PresenceFlags(rawValue: 2)
  /// FIFOs, sockets and devices.
  public static let specialFiles = PresenceFlags(rawValue: 4)
  /// Containers that hold a link's target.
  public static let longLinks = PresenceFlags(rawValue: 8)
  /// Symbolic links with their targets in clear.
  public static let plainTargets = PresenceFlags(rawValue: 16)

  static let all = PresenceFlags(rawValue: 31)
}

/// What of a directory's record decides what an entry is.
struct EntryTerms: Sendable {
  let names: NamePolicy
  let allowed: PresenceFlags
  /// The kinds under which a name may exist, the one that counts first.
  let kinds: [EntryKind]

  init(names: NamePolicy, allowed: PresenceFlags) {
    self.names = names
    self.allowed = allowed
    var kinds: [EntryKind] = [.primary]
    switch names {
    case .sealed:
      if allowed.contains(.plainFiles) { kinds.append(.plain) }
      if allowed.contains(.specialFiles) { kinds.append(.special) }
    case .plain:
      if allowed.contains(.containers) { kinds.append(.container) }
    }
    if allowed.contains(.longLinks) { kinds.append(.longLink) }
    self.kinds = kinds
  }
}

/// The authenticated description of a directory (format §5).
public struct DirectoryRecord: Sendable, Equatable {
  /// The directory's identity.
  public var id: DirectoryID
  /// Grows by one with every change.
  public var serial: UInt64
  /// The policy of new files.
  public var content: ContentPolicy
  /// The policy of the entries' names.
  public var names: NamePolicy
  /// What was ever made here besides what the policy makes.
  public var flags: PresenceFlags
  /// Exceptions by name, the first match wins; at most 32.
  public var rules: [ContentRule]
  /// Where the directory may be, one or two.
  var bindings: [Binding]

  /// What may exist here: the flags, and what policy and rules imply.
  public var allowed: PresenceFlags {
    var allowed = flags
    allowed.formUnion(DirectoryRecord.implied(by: content))
    for rule in rules { allowed.formUnion(DirectoryRecord.impliedByRule(rule.policy)) }
    if isNative { allowed.insert(.specialFiles) }
    return allowed
  }

  /// What decides what an entry is.
  var terms: EntryTerms { EntryTerms(names: names, allowed: allowed) }

  /// Whether the backing directory is the data as it is: plain names and plain content.
  public var isNative: Bool { content == .plain && names == .plain }

  /// The policy of a new file with this name.
  public func policy(for name: [UInt8]) -> ContentPolicy {
    for rule in rules where rule.matches(name) { return rule.policy }
    return content
  }

  private static func implied(by policy: ContentPolicy) -> PresenceFlags {
    policy == .plain ? [.plainFiles, .plainTargets] : .containers
  }

  private static func impliedByRule(_ policy: ContentPolicy) -> PresenceFlags {
    policy == .plain ? .plainFiles : .containers
  }

  // MARK: Encoding

  /// The record as it is stored, sealed under the vault's record key.
  func sealed(with keys: MasterKeys) throws(VaultError) -> [UInt8] {
    precondition((1...2).contains(bindings.count), "a record has one or two bindings")
    precondition(rules.count <= Format.maximumRules, "a record has at most 32 rules")
    var body = ByteWriter(capacity: 64)
    body.write(id.bytes)
    body.write(serial)
    body.write(content.rawValue)
    body.write(names.rawValue)
    body.write(flags.rawValue)
    body.write(UInt8(bindings.count))
    body.write(UInt8(rules.count))
    body.write(UInt16(0))
    for binding in bindings { body.write(binding.bytes) }
    for rule in rules {
      body.write(rule.policy.rawValue)
      body.write(UInt8(rule.pattern.count))
      body.write(rule.pattern)
    }
    do {
      let parts = try keys.records.seal(
        body.bytes, associatedData: Format.recordMagic + keys.vaultID)
      return Format.recordMagic + parts.nonce + parts.tag + parts.body
    } catch {
      throw .system(.noMemory, "sealing a directory record")
    }
  }

  /// Opens a stored record; nil if it is not one this vault made.
  init?(opening bytes: [UInt8], with keys: MasterKeys) {
    guard bytes.count >= 36 + 32, bytes.count <= Format.maximumRecord,
      Array(bytes[..<8]) == Format.recordMagic
    else { return nil }
    let parts = Sealer.Parts(
      nonce: Array(bytes[8..<20]), tag: Array(bytes[20..<36]), body: Array(bytes[36...]))
    guard
      let body = try? keys.records.open(
        parts, associatedData: Format.recordMagic + keys.vaultID),
      let record = try? body.withByteReader({ reader throws(CodecError) in
        try DirectoryRecord(from: &reader)
      })
    else { return nil }
    self = record
  }

  private init?(from reader: inout ByteReader) throws(CodecError) {
    id = DirectoryID(bytes: try reader.readArray(16))
    serial = try reader.readUInt64()
    let content = ContentPolicy(rawValue: try reader.readUInt8())
    let names = NamePolicy(rawValue: try reader.readUInt8())
    flags = PresenceFlags(rawValue: try reader.readUInt16())
    let bindingCount = Int(try reader.readUInt8())
    let ruleCount = Int(try reader.readUInt8())
    let zero = try reader.readUInt16()
    guard let content, let names, id != .aboveRoot, PresenceFlags.all.isSuperset(of: flags),
      (1...2).contains(bindingCount), ruleCount <= Format.maximumRules, zero == 0
    else { return nil }
    self.content = content
    self.names = names
    bindings = []
    for _ in 0..<bindingCount { bindings.append(Binding(try reader.readArray(16))) }
    rules = []
    for _ in 0..<ruleCount {
      let policy = ContentPolicy(rawValue: try reader.readUInt8())
      let length = Int(try reader.readUInt8())
      guard let policy,
        let rule = ContentRule(pattern: try reader.readArray(length), policy: policy)
      else { return nil }
      rules.append(rule)
    }
    try reader.finish()
  }

  init(
    id: DirectoryID, serial: UInt64, content: ContentPolicy, names: NamePolicy,
    flags: PresenceFlags, rules: [ContentRule], bindings: [Binding]
  ) {
    self.id = id
    self.serial = serial
    self.content = content
    self.names = names
    self.flags = flags
    self.rules = rules
    self.bindings = bindings
  }

  /// The record of a new directory inside this one: policies and rules are inherited.
  func child(at binding: Binding) -> DirectoryRecord {
    DirectoryRecord(
      id: .random(), serial: 1, content: content, names: names, flags: [], rules: rules,
      bindings: [binding])
  }
}
