public import Primitives
import SystemPackage

/// What unlocks a slot (format §4).
public enum SlotKind: UInt8, Sendable, CaseIterable {
  /// Something a person types.
  case passphrase = 1
  /// The bytes of a file.
  case keyFile = 2
  /// A printed recovery key.
  case recovery = 3
  /// A passphrase that a command prints.
  case command = 4
}

/// A secret as its owner hands it over.
public enum VaultSecret: Sendable {
  /// A passphrase, without the newline of a prompt or file.
  case passphrase(SecretBytes)
  /// The content of a key file, at least one byte.
  case keyFile(SecretBytes)
  /// A recovery key.
  case recovery(RecoveryKey)
  /// What a command printed, without its trailing newline.
  case command(SecretBytes)

  /// The kind of slot this makes.
  public var kind: SlotKind {
    switch self {
    case .passphrase: .passphrase
    case .keyFile: .keyFile
    case .recovery: .recovery
    case .command: .command
    }
  }

  var bytes: SecretBytes {
    switch self {
    case .passphrase(let bytes), .keyFile(let bytes), .command(let bytes): bytes
    case .recovery(let key): key.secret
    }
  }

  /// Whether a slot of this kind may open with this secret: a command prints a passphrase.
  func fits(_ kind: SlotKind) -> Bool {
    switch (self.kind, kind) {
    case (.passphrase, .command), (.command, .passphrase): true
    case (let mine, let other): mine == other
    }
  }
}

/// How a slot's key is derived from its secret.
public enum SlotDerivation: Equatable, Sendable {
  /// RFC 7914.
  case scrypt(logN: UInt32, r: UInt32, p: UInt32)
  /// RFC 9106; memory in KiB.
  case argon2id(memory: UInt32, passes: UInt32, lanes: UInt32)
  /// RFC 5869, for secrets that are random already.
  case hkdf

  fileprivate static let memoryLimit: UInt64 = 1 << 32

  fileprivate var stored: (UInt8, UInt32, UInt32, UInt32) {
    switch self {
    case .scrypt(let logN, let r, let p): (1, logN, r, p)
    case .argon2id(let memory, let passes, let lanes): (2, memory, passes, lanes)
    case .hkdf: (3, 0, 0, 0)
    }
  }

  fileprivate init?(_ kind: UInt8, _ first: UInt32, _ second: UInt32, _ third: UInt32) {
    switch kind {
    case 1:
      guard (10...24).contains(first), (1...32).contains(second), (1...16).contains(third),
        128 * (UInt64(1) << UInt64(first)) * UInt64(second) <= SlotDerivation.memoryLimit
      else { return nil }
      self = .scrypt(logN: first, r: second, p: third)
    case 2:
      guard (1...64).contains(second), (1...16).contains(third), first >= 8 * third,
        UInt64(first) * 1024 <= SlotDerivation.memoryLimit
      else { return nil }
      self = .argon2id(memory: first, passes: second, lanes: third)
    case 3:
      guard first == 0, second == 0, third == 0 else { return nil }
      self = .hkdf
    default: return nil
    }
  }

  fileprivate func key(from secret: SecretBytes, salt: [UInt8]) throws(CryptoError) -> SecretBytes {
    // Room for scrypt's own p blocks above the 4 GiB of the table.
    let limit = SlotDerivation.memoryLimit + 1 << 20
    return switch self {
    case .scrypt(let logN, let r, let p):
      try KeyDerivation.scrypt(
        passphrase: secret, salt: salt, logN: UInt8(truncatingIfNeeded: logN), r: r, p: p,
        memoryLimit: limit)
    case .argon2id(let memory, let passes, let lanes):
      try KeyDerivation.argon2id(
        passphrase: secret, salt: salt, memory: memory, iterations: passes, lanes: lanes,
        memoryLimit: limit)
    case .hkdf:
      KeyDerivation.hkdfSHA256(secret: secret, salt: salt, info: Format.slotInfo, count: 32)
    }
  }
}

/// One wrapped copy of the master key.
public struct KeySlot: Sendable, Equatable {
  /// What unlocks it.
  public let kind: SlotKind
  /// How its key is derived.
  public let derivation: SlotDerivation
  /// Its owner's note, at most 64 bytes.
  public let label: String

  let salt: [UInt8]
  let nonce: [UInt8]
  let wrapped: [UInt8]
  let tag: [UInt8]

  /// Wraps a master key.
  init(
    wrapping master: SecretBytes, secret: VaultSecret, label: String, cost: KeyCost,
    vaultID: [UInt8]
  ) throws(VaultError) {
    guard label.utf8.count <= 64 else {
      throw .system(.invalidArgument, "a slot's label has at most 64 bytes")
    }
    guard secret.bytes.count > 0 else {
      throw .system(.invalidArgument, "the secret is empty")
    }
    kind = secret.kind
    self.label = label
    switch secret {
    case .passphrase, .command: derivation = cost.derivation
    case .keyFile, .recovery: derivation = .hkdf
    }
    salt = Random.bytes(32)
    do {
      let key = try derivation.key(from: secret.bytes, salt: salt)
      let data = KeySlot.associatedData(kind, derivation, salt, label, vaultID)
      let parts = try master.withUnsafeBytes { master throws(CryptoError) in
        try Sealer(suite: .aes256GCM, key: key).seal([UInt8](master), associatedData: data)
      }
      (nonce, wrapped, tag) = (parts.nonce, parts.body, parts.tag)
    } catch {
      throw .system(.noMemory, "deriving the slot's key: \(error)")
    }
  }

  /// The master key, or nil if the secret is not this slot's.
  func unwrap(_ secret: VaultSecret, vaultID: [UInt8]) throws(VaultError) -> SecretBytes? {
    do {
      let key = try derivation.key(from: secret.bytes, salt: salt)
      let data = KeySlot.associatedData(kind, derivation, salt, label, vaultID)
      var master = try Sealer(suite: .aes256GCM, key: key)
        .open(.init(nonce: nonce, tag: tag, body: wrapped), associatedData: data)
      defer { master.wipe() }
      return SecretBytes(copying: master)
    } catch .authenticationFailed {
      return nil
    } catch .unavailable {
      // Another slot may do.
      return nil
    } catch {
      throw .system(.noMemory, "deriving the slot's key: \(error)")
    }
  }

  private static func fixedPart(
    _ kind: SlotKind, _ derivation: SlotDerivation, _ salt: [UInt8]
  ) -> [UInt8] {
    let (function, first, second, third) = derivation.stored
    var writer = ByteWriter(capacity: 46)
    writer.write(kind.rawValue)
    writer.write(function)
    writer.write(first)
    writer.write(second)
    writer.write(third)
    writer.write(salt)
    return writer.bytes
  }

  private static func associatedData(
    _ kind: SlotKind, _ derivation: SlotDerivation, _ salt: [UInt8], _ label: String,
    _ vaultID: [UInt8]
  ) -> [UInt8] {
    Format.slotInfo + vaultID + fixedPart(kind, derivation, salt) + [UInt8](label.utf8)
  }

  func write(to writer: inout ByteWriter) {
    writer.write(UInt16(109 + label.utf8.count))
    writer.write(KeySlot.fixedPart(kind, derivation, salt))
    writer.write(nonce)
    writer.write(wrapped)
    writer.write(tag)
    writer.write(UInt8(label.utf8.count))
    writer.write([UInt8](label.utf8))
  }

  init?(from reader: inout ByteReader) throws(CodecError) {
    let length = Int(try reader.readUInt16())
    guard length >= 109, length <= 109 + 64 else { return nil }
    var slot = ByteReader(try reader.read(length - 2))
    guard let kind = SlotKind(rawValue: try slot.readUInt8()) else { return nil }
    let function = try slot.readUInt8()
    let costs = (try slot.readUInt32(), try slot.readUInt32(), try slot.readUInt32())
    guard let derivation = SlotDerivation(function, costs.0, costs.1, costs.2) else { return nil }
    self.kind = kind
    self.derivation = derivation
    salt = try slot.readArray(32)
    nonce = try slot.readArray(12)
    wrapped = try slot.readArray(32)
    tag = try slot.readArray(16)
    let labelBytes = try slot.readArray(Int(try slot.readUInt8()))
    try slot.finish()
    guard let label = String(validating: labelBytes, as: UTF8.self) else { return nil }
    self.label = label
    // A secret that people choose must not go through a fast function, nor the other way round.
    switch kind {
    case .passphrase, .command: if derivation == .hkdf { return nil }
    case .keyFile, .recovery: if derivation != .hkdf { return nil }
    }
  }
}
