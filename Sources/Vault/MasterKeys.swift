public import Container
public import Primitives

/// The keys of one vault, each derived from the master key for one purpose (format §3).
public final class MasterKeys: Sendable {
  /// The vault's 16 random bytes.
  public let vaultID: [UInt8]
  /// The AEAD everything but key slots is sealed with.
  public let suite: CipherSuite
  /// What containers derive their own keys from.
  public let content: ContainerKeys

  let master: SecretBytes
  let headerMAC: SecretBytes
  let bindings: SecretBytes
  let names: SIV
  let links: SIV
  let attributeNames: SIV
  let records: Sealer
  let hints: Sealer
  let attributes: Sealer
  let sessions: Sealer

  init(master: SecretBytes, vaultID: [UInt8], suite: CipherSuite) throws(CryptoError) {
    func derive(_ label: KeyLabel, _ count: Int) -> SecretBytes {
      KeyDerivation.hkdfSHA256(
        secret: master, salt: vaultID, info: [UInt8](label.rawValue.utf8), count: count)
    }
    self.master = master
    self.vaultID = vaultID
    self.suite = suite
    headerMAC = derive(.headerMAC, 32)
    bindings = derive(.bindings, 32)
    names = try SIV(key: derive(.names, 64))
    links = try SIV(key: derive(.links, 64))
    attributeNames = try SIV(key: derive(.attributeNames, 64))
    records = try Sealer(suite: suite, key: derive(.records, 32))
    hints = try Sealer(suite: suite, key: derive(.hints, 32))
    attributes = try Sealer(suite: suite, key: derive(.attributes, 32))
    sessions = try Sealer(suite: suite, key: derive(.sessions, 32))
    content = ContainerKeys(contentRoot: derive(.content, 32), suite: suite)
  }

  /// The binding of a plain name in a directory.
  func binding(of name: [UInt8], in directory: DirectoryID) -> Binding {
    Binding(
      Array(
        KeyDerivation.hmacSHA256(
          key: bindings, message: directory.bytes + name)[..<16]))
  }

  /// The root directory's binding: the empty name above the root.
  var rootBinding: Binding { binding(of: [], in: .aboveRoot) }
}
