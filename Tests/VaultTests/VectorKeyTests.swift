import Container
import Primitives
import TestSupport
import Testing

@testable import Vault

/// The known answers about keys, slots and the vault header.
@Suite struct VectorKeyTests {
  private struct Keys: VaultVector {
    struct Bound: Decodable {
      let directory: Hex
      let plain: Hex
      let binding: Hex
    }

    let name: String
    let master: Hex
    let vaultId: Hex
    let suite: UInt8
    let keys: [String: Hex]
    let bindings: [Bound]
  }

  @Test func keysAndBindingsAreTheKnownOnes() throws {
    for vector in try Vectors.cases("kdf/keys.json", as: Keys.self) {
      let keys = try vector.keys()
      #expect(keys.headerMAC.copied == vector.keys["header_mac"]?.bytes)
      #expect(keys.bindings.copied == vector.keys["bindings"]?.bytes)
      for bound in vector.bindings {
        let binding = keys.binding(
          of: bound.plain.bytes, in: DirectoryID(bytes: bound.directory.bytes))
        #expect(binding.bytes == bound.binding.bytes)
      }
    }
  }

  private struct Typed: Decodable {
    let name: String
    let text: String
    let key: Hex?
    let data: Hex?
  }

  @Test func recoveryKeysAreReadAsPeopleTypeThem() throws {
    for vector in try Vectors.cases("kdf/recovery.json", as: Typed.self) {
      let key = RecoveryKey(text: vector.text)
      #expect(key?.secret.copied == vector.key?.bytes, "\(vector.name)")
    }
  }

  @Test func base64IsCanonical() throws {
    for vector in try Vectors.cases("kdf/base64.json", as: Typed.self) {
      let data = Base64URL.decode([UInt8](vector.text.utf8))
      #expect(data == vector.data?.bytes, "\(vector.name)")
      if let known = vector.data?.bytes {
        #expect(Base64URL.encode(known) == [UInt8](vector.text.utf8))
      }
    }
  }

  private struct Unlocking: Decodable {
    let name: String
    let header: Hex
    let kind: UInt8
    let secret: Hex
    let master: Hex?
    let fails: String?

    func unlock() throws(VaultError) -> [UInt8] {
      let header = try VaultHeader(parsing: header.bytes)
      let secret = SecretBytes(copying: secret.bytes)
      let typed: VaultSecret =
        switch kind {
        case 2: .keyFile(secret)
        case 3: .recovery(try recoveryKey())
        case 4: .command(secret)
        default: .passphrase(secret)
        }
      return try header.unlock(typed).keys.master.copied
    }

    private func recoveryKey() throws(VaultError) -> RecoveryKey {
      let checked = secret.bytes + KeyDerivation.sha256(secret.bytes)[..<2]
      guard let key = RecoveryKey(text: String(decoding: Base32.encode(checked), as: UTF8.self))
      else { throw .damaged("the vector's recovery key") }
      return key
    }

    /// How unlocking failed, in the words of the vectors.
    func failure() -> String? {
      do {
        _ = try unlock()
        return nil
      } catch {
        return switch error {
        case .notAVault: "not a vault"
        case .unsupportedVersion: "unknown version"
        case .wrongSecret: "wrong secret"
        case .damaged: "damaged"
        default: "\(error)"
        }
      }
    }
  }

  @Test func headersUnlockOrFailAsKnown() throws {
    for vector in try Vectors.cases("slot/vault-header.json", as: Unlocking.self) {
      if let fails = vector.fails {
        #expect(vector.failure() == fails, "\(vector.name)")
      } else {
        #expect(try vector.unlock() == vector.master?.bytes, "\(vector.name)")
      }
    }
  }
}
