import Primitives
import TestSupport

@testable import Vault

/// What a case says about its vault.
protocol VaultVector: Decodable, Sendable {
  var name: String { get }
  var master: Hex { get }
  var vaultId: Hex { get }
  var suite: UInt8 { get }
}

extension VaultVector {
  func keys() throws -> MasterKeys {
    try MasterKeys(
      master: SecretBytes(copying: master.bytes), vaultID: vaultId.bytes,
      suite: CipherSuite(rawValue: suite) ?? .aes256GCM)
  }
}

extension SecretBytes {
  var copied: [UInt8] { withUnsafeBytes { [UInt8]($0) } }
}
