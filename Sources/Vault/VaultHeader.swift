public import Primitives
import SystemPackage

/// The public header of a vault: what it takes to open it (format §4).
public struct VaultHeader: Sendable, Equatable {
  /// The AEAD of the whole vault.
  public let suite: CipherSuite
  /// 16 random bytes that tell vaults apart.
  public let vaultID: [UInt8]
  /// The key slots, 1 to 64.
  public internal(set) var slots: [KeySlot]

  private var mac: [UInt8] = []

  init(suite: CipherSuite, vaultID: [UInt8], slots: [KeySlot]) {
    self.suite = suite
    self.vaultID = vaultID
    self.slots = slots
  }

  /// Parses a header; its MAC can be checked only once a slot has given the master key.
  ///
  /// - Parameter bytes: The whole file.
  /// - Throws: `.notAVault` for something else, `.unsupportedVersion`, `.damaged` with the reason.
  public init(parsing bytes: [UInt8]) throws(VaultError) {
    self = try bytes.withByteReader { reader throws(VaultError) in
      do {
        return try VaultHeader(from: &reader)
      } catch let error as VaultError {
        throw error
      } catch {
        throw .damaged("scrim.vault has the wrong length")
      }
    }
  }

  private init(from reader: inout ByteReader) throws {
    guard try reader.readArray(8) == Format.headerMagic else {
      throw VaultError.notAVault("scrim.vault is not a vault's header")
    }
    let version = try reader.readUInt16()
    guard version == Format.version else {
      throw VaultError.unsupportedVersion(version)
    }
    guard let suite = CipherSuite(rawValue: try reader.readUInt8()) else {
      throw VaultError.damaged("scrim.vault names an unknown cipher suite")
    }
    let firstZero = try reader.readUInt8()
    self.suite = suite
    vaultID = try reader.readArray(Format.vaultIDCount)
    let count = Int(try reader.readUInt16())
    let secondZero = try reader.readUInt16()
    guard firstZero == 0, secondZero == 0, (1...Format.maximumSlots).contains(count) else {
      throw VaultError.damaged("scrim.vault has fields no writer makes")
    }
    slots = []
    for _ in 0..<count {
      guard let slot = try KeySlot(from: &reader) else {
        throw VaultError.damaged("scrim.vault has a key slot with fields no writer makes")
      }
      slots.append(slot)
    }
    mac = try reader.readArray(32)
    try reader.finish()
  }

  private var authenticatedBytes: [UInt8] {
    var writer = ByteWriter(capacity: 1024)
    writer.write(Format.headerMagic)
    writer.write(Format.version)
    writer.write(suite.rawValue)
    writer.write(UInt8(0))
    writer.write(vaultID)
    writer.write(UInt16(slots.count))
    writer.write(UInt16(0))
    for slot in slots { slot.write(to: &writer) }
    return writer.bytes
  }

  /// The file's bytes, authenticated with the vault's keys.
  func serialized(with keys: MasterKeys) -> [UInt8] {
    let bytes = authenticatedBytes
    return bytes + KeyDerivation.hmacSHA256(key: keys.headerMAC, message: bytes)
  }

  /// Finds the slot a secret opens and checks the whole header with the key inside.
  ///
  /// - Parameter secret: Tried on every slot of its kind, in order.
  /// - Returns: The keys, and the index of the slot.
  /// - Throws: `.wrongSecret`; `.damaged` if a slot opens but the header's MAC is wrong.
  public func unlock(_ secret: VaultSecret) throws(VaultError) -> (keys: MasterKeys, slot: Int) {
    for (index, slot) in slots.enumerated() where secret.fits(slot.kind) {
      guard let master = try slot.unwrap(secret, vaultID: vaultID) else { continue }
      let keys: MasterKeys
      do {
        keys = try MasterKeys(master: master, vaultID: vaultID, suite: suite)
      } catch {
        throw .system(.noMemory, "deriving the vault's keys: \(error)")
      }
      let expected = KeyDerivation.hmacSHA256(key: keys.headerMAC, message: authenticatedBytes)
      guard ConstantTime.equal(expected, mac) else {
        throw .damaged("scrim.vault was changed by someone without its key")
      }
      return (keys, index)
    }
    throw .wrongSecret
  }

  /// Whether two headers say the same; the MAC follows from the rest.
  public static func == (left: VaultHeader, right: VaultHeader) -> Bool {
    left.authenticatedBytes == right.authenticatedBytes
  }
}
