import Primitives

/// 32 random bytes that open a vault, in a form to print and type again (format §4).
public struct RecoveryKey: Sendable {
  let secret: SecretBytes

  /// A new key.
  public static func random() -> RecoveryKey { RecoveryKey(secret: .random(count: 32)) }

  private init(secret: SecretBytes) { self.secret = secret }

  /// Reads a typed key; case, blanks and hyphens do not matter. nil if it is not a recovery key or
  /// has a typing mistake.
  public init?(text: String) {
    guard var bytes = Base32.decode([UInt8](text.utf8)) else { return nil }
    defer { bytes.wipe() }
    guard bytes.count == 34 else { return nil }
    let check = KeyDerivation.sha256([UInt8](bytes[..<32]))
    guard check[0] == bytes[32], check[1] == bytes[33] else { return nil }
    secret = SecretBytes(copying: [UInt8](bytes[..<32]))
  }

  /// The key as text: 55 characters in groups of five joined by hyphens.
  public var text: String {
    var bytes = secret.withUnsafeBytes { [UInt8]($0) }
    defer { bytes.wipe() }
    let check = KeyDerivation.sha256(bytes)
    let symbols = Base32.encode(bytes + check[..<2])
    var text: [UInt8] = []
    for (index, symbol) in symbols.enumerated() {
      if index > 0, index % 5 == 0 { text.append(UInt8(ascii: "-")) }
      text.append(symbol)
    }
    return String(decoding: text, as: UTF8.self)
  }
}
