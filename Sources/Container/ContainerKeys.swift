import Primitives

/// The key from which containers derive theirs; shared by all containers of a vault.
public final class ContainerKeys: Sendable {
  /// The AEAD algorithm of the vault.
  public let suite: CipherSuite
  private let contentRoot: SecretBytes?

  /// Takes a vault's content root key, docs/format.md §3.
  ///
  /// - Parameters:
  ///   - contentRoot: 32 bytes.
  ///   - suite: The vault's suite.
  public init(contentRoot: SecretBytes, suite: CipherSuite) {
    precondition(contentRoot.count == 32, "the content root key has 32 bytes")
    self.contentRoot = contentRoot
    self.suite = suite
  }

  private init(suite: CipherSuite) {
    contentRoot = nil
    self.suite = suite
  }

  /// For readers without a key: they read `compressed` containers, and cannot tell whether
  /// someone changed them.
  public static func unverified(suite: CipherSuite) -> ContainerKeys {
    ContainerKeys(suite: suite)
  }

  var canVerify: Bool { contentRoot != nil }

  /// The key of a container at an epoch, docs/format.md §3.
  func key(of file: FileID, epoch: UInt16) throws(ContainerError) -> SecretBytes {
    guard let contentRoot else { throw .keyMissing }
    let info = Array("scrim container".utf8) + [UInt8(epoch & 0xFF), UInt8(epoch >> 8)]
    return KeyDerivation.hkdfSHA256(secret: contentRoot, salt: file.bytes, info: info)
  }
}
