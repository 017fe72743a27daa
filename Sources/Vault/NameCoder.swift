import Primitives
import SystemPackage

/// Turns plain names into backing names and back, for one directory ID and name policy (format §6).
struct NameCoder: Sendable {
  let keys: MasterKeys
  let id: DirectoryID
  let policy: NamePolicy
  /// What most sealed names are sealed with; nil under plain names, or where memory ran out.
  private let primaryPrefix: SIV.Prefix?

  init(keys: MasterKeys, id: DirectoryID, policy: NamePolicy) {
    self.keys = keys
    self.id = id
    self.policy = policy
    primaryPrefix =
      policy == .sealed ? try? NameCoder.prefix(of: .primary, in: id, keys) : nil
  }

  private static func prefix(
    of kind: EntryKind, in id: DirectoryID, _ keys: MasterKeys
  ) throws(CryptoError) -> SIV.Prefix {
    try keys.names.prefix([id.bytes, [kind.rawValue]])
  }

  private func prefix(of kind: EntryKind) throws(CryptoError) -> SIV.Prefix {
    if kind == .primary, let primaryPrefix { return primaryPrefix }
    return try NameCoder.prefix(of: kind, in: id, keys)
  }

  /// A name in the backing directory, with the sidecar it needs if it is a hash.
  struct BackingName: Equatable {
    var name: [UInt8]
    var sidecar: Sidecar?
  }

  /// A file that holds what a hashed name stands for.
  struct Sidecar: Equatable {
    var name: [UInt8]
    var content: [UInt8]
  }

  /// What a backing name stands for.
  enum Decoded: Equatable {
    case entry(name: [UInt8], kind: EntryKind)
    /// A record, a temporary name, or something a later version may know.
    case reserved
    /// Holds the full form of a hashed name.
    case sidecar
    /// No name this vault makes here.
    case unknown
  }

  // MARK: Encoding

  /// The backing name of an entry.
  ///
  /// - Parameters:
  ///   - name: A valid plain name.
  ///   - kind: One the policy uses.
  /// - Returns: The name, with its sidecar if it is a hash.
  /// - Throws: `.system` if memory runs out.
  func encode(_ name: [UInt8], kind: EntryKind) throws(VaultError) -> BackingName {
    guard let suffix = kind.suffix(policy) else {
      preconditionFailure("the name policy does not use this kind")
    }
    let stem = try stem(of: name, kind: kind)
    if stem.count + suffix.count <= Format.maximumName {
      return BackingName(name: suffix.isEmpty ? stem : stem + suffix, sidecar: nil)
    }
    let base = hashed(stem)
    return BackingName(
      name: base + suffix,
      sidecar: Sidecar(name: base + Format.sidecarSuffix, content: stem))
  }

  /// S or E of the format: the backing name before suffix and hashing.
  private func stem(of name: [UInt8], kind: EntryKind) throws(VaultError) -> [UInt8] {
    switch policy {
    case .plain: return NameCoder.escaped(name)
    case .sealed:
      do {
        return Base64URL.encode(try keys.names.seal(Padding.pad(name), after: prefix(of: kind)))
      } catch {
        throw .system(.noMemory, "sealing a name")
      }
    }
  }

  private static func escaped(_ name: [UInt8]) -> [UInt8] {
    let needsEscape =
      name.starts(with: Format.reservedPrefix) || name.hasSuffix(Format.plainContainerSuffix)
      || name.hasSuffix(Format.plainLinkSuffix)
    // The last byte keeps the name's own suffix from being taken for that of a kind.
    return needsEscape ? Format.plainEscape + name + [UInt8(ascii: "_")] : name
  }

  private var longPrefix: [UInt8] {
    policy == .sealed ? [Format.longPrefix] : Format.plainLongPrefix
  }

  private func hashed(_ stem: [UInt8]) -> [UInt8] {
    longPrefix + Base64URL.encode(KeyDerivation.sha256(stem))
  }

  // MARK: Decoding

  /// What a backing name stands for.
  ///
  /// - Parameters:
  ///   - backing: The name in the backing directory.
  ///   - sidecar: Reads a sidecar by its name; nil where there is none.
  /// - Returns: An entry, or why it is none.
  func decode(_ backing: [UInt8], sidecar: ([UInt8]) -> [UInt8]?) -> Decoded {
    if isOrdinary(backing) {
      guard let name = plainName(stem: backing, kind: .primary), isValidName(name) else {
        return .unknown
      }
      return .entry(name: name, kind: .primary)
    }
    let isHashed = backing.starts(with: longPrefix)
    let isEscaped = policy == .plain && backing.starts(with: Format.plainEscape)
    if !isHashed, !isEscaped, backing.starts(with: Format.reservedPrefix) { return .reserved }
    if isHashed, backing.hasSuffix(Format.sidecarSuffix),
      backing.count == longPrefix.count + Format.hashCount + Format.sidecarSuffix.count
    {
      return .sidecar
    }
    let (kind, suffix) = kindBySuffix(backing)
    var stem = Array(backing[..<(backing.count - suffix.count)])
    if isHashed {
      // Under plain names a file may well begin with the prefix by chance: only under sealed names
      // is every such name ours; under plain ones the prefix is reserved.
      guard stem.count == longPrefix.count + Format.hashCount,
        let content = sidecar(stem + Format.sidecarSuffix), hashed(content) == stem,
        content.count + suffix.count > Format.maximumName
      else { return .unknown }
      stem = content
    }
    guard let name = plainName(stem: stem, kind: kind), isValidName(name) else { return .unknown }
    return .entry(name: name, kind: kind)
  }

  /// Whether this can only be a sealed name of the primary kind: it begins like no other name, and ends like none.
  private func isOrdinary(_ backing: [UInt8]) -> Bool {
    let dot = UInt8(ascii: ".")
    return policy == .sealed && backing.count > 2 && backing[0] != Format.longPrefix
      && backing[0] != dot && backing[backing.count - 2] != dot
  }

  private func kindBySuffix(_ backing: [UInt8]) -> (EntryKind, [UInt8]) {
    for kind in EntryKind.allCases where kind != .primary {
      if let suffix = kind.suffix(policy), backing.hasSuffix(suffix) { return (kind, suffix) }
    }
    return (.primary, [])
  }

  private func plainName(stem: [UInt8], kind: EntryKind) -> [UInt8]? {
    switch policy {
    case .plain:
      let name =
        stem.starts(with: Format.plainEscape)
        ? Array(stem.dropFirst(Format.plainEscape.count).dropLast()) : stem
      return NameCoder.escaped(name) == stem ? name : nil
    case .sealed:
      guard let sealed = Base64URL.decode(stem),
        let padded = try? keys.names.open(sealed, after: prefix(of: kind))
      else { return nil }
      return Padding.unpad(padded)
    }
  }
}

/// Zero padding to a multiple of 16 bytes, of strings without zero bytes (format §6, §7).
enum Padding {
  static func pad(_ text: [UInt8]) -> [UInt8] {
    let step = Format.namePadding
    var padded = [UInt8](repeating: 0, count: (text.count + step - 1) / step * step)
    padded.withUnsafeMutableBytes { $0.copyBytes(from: text) }
    return padded
  }

  /// The text, or nil if padding it again would not give these bytes.
  static func unpad(_ padded: consuming [UInt8]) -> [UInt8]? {
    var count = padded.count
    while count > 0, padded[count - 1] == 0 { count -= 1 }
    let zeros = padded.count - count
    guard count > 0, zeros < Format.namePadding, padded.count.isMultiple(of: Format.namePadding)
    else { return nil }
    for index in 0..<count where padded[index] == 0 { return nil }
    padded.removeLast(zeros)
    return padded
  }
}

/// Whether these bytes may be a plain name: 1 to 255, without NUL and `/`, not `.` or `..`.
func isValidName(_ name: [UInt8]) -> Bool {
  guard (1...Format.maximumName).contains(name.count) else { return false }
  let dot = UInt8(ascii: ".")
  if name.count <= 2, name[0] == dot, name[name.count - 1] == dot { return false }
  for byte in name where byte == 0 || byte == UInt8(ascii: "/") { return false }
  return true
}

extension [UInt8] {
  func hasSuffix(_ suffix: [UInt8]) -> Bool {
    count >= suffix.count && self[(count - suffix.count)...].elementsEqual(suffix)
  }

  /// Where a sequence of bytes begins, searching from an index.
  func firstIndex(of pattern: [UInt8], from start: Int = 0) -> Int? {
    guard !pattern.isEmpty, count >= pattern.count, start <= count - pattern.count else {
      return nil
    }
    return (start...(count - pattern.count)).first {
      self[$0] == pattern[0] && self[$0..<($0 + pattern.count)].elementsEqual(pattern)
    }
  }
}
