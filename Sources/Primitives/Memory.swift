import CCrypto

extension UnsafeMutableRawBufferPointer {
  /// Overwrites every byte with zero, in a way the compiler does not remove.
  public func wipe() {
    if let start = baseAddress { OPENSSL_cleanse(start, count) }
  }
}

extension [UInt8] {
  /// Overwrites every byte with zero, in a way the compiler does not remove. A copy that shares
  /// no storage with this array keeps its bytes.
  public mutating func wipe() {
    withUnsafeMutableBytes { $0.wipe() }
  }
}

/// Comparison whose time depends on lengths only.
public enum ConstantTime {
  /// Whether two byte strings are the same; different lengths differ at once.
  public static func equal(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool
  {
    guard left.count == right.count else { return false }
    guard let first = left.baseAddress, let second = right.baseAddress else { return true }
    return CRYPTO_memcmp(first, second, left.count) == 0
  }

  /// Whether two byte strings are the same; different lengths differ at once.
  public static func equal(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.withUnsafeBytes { first in right.withUnsafeBytes { second in equal(first, second) } }
  }
}
