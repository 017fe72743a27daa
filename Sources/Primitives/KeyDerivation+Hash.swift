import CCrypto

extension KeyDerivation {
  private static let digestCount = 32
  private static let blockCount = 64

  /// SHA-256, FIPS 180-4; 32 bytes.
  public static func sha256(_ message: [UInt8]) -> [UInt8] {
    message.withUnsafeBytes { sha256($0) }
  }

  /// SHA-256, FIPS 180-4; 32 bytes.
  public static func sha256(_ message: UnsafeRawBufferPointer) -> [UInt8] {
    digest { output in
      let none = UnsafeRawBufferPointer(start: nil, count: 0)
      DigestContext().hash(message, then: none, into: output)
    }
  }

  /// HMAC with SHA-256, RFC 2104; 32 bytes.
  public static func hmacSHA256(key: SecretBytes, message: [UInt8]) -> [UInt8] {
    message.withUnsafeBytes { hmacSHA256(key: key, message: $0) }
  }

  /// HMAC with SHA-256, RFC 2104; 32 bytes.
  public static func hmacSHA256(key: SecretBytes, message: UnsafeRawBufferPointer) -> [UInt8] {
    digest { output in
      hmac(key: UnsafeRawBufferPointer(key.storage), message: message, into: output)
      withExtendedLifetime(key) {}
    }
  }

  /// Fetching the hash for every call, as libcrypto's HMAC does, would take most of the time.
  static func hmac(
    key: UnsafeRawBufferPointer, message: UnsafeRawBufferPointer,
    into output: UnsafeMutableRawBufferPointer
  ) {
    let context = DigestContext()
    let none = UnsafeRawBufferPointer(start: nil, count: 0)
    withUnsafeTemporaryAllocation(byteCount: blockCount + digestCount, alignment: 8) { scratch in
      defer { scratch.wipe() }
      let block = UnsafeMutableRawBufferPointer(rebasing: scratch[..<blockCount])
      let inner = UnsafeMutableRawBufferPointer(rebasing: scratch[blockCount...])
      block.initializeMemory(as: UInt8.self, repeating: 0)
      if key.count > blockCount {
        context.hash(key, then: none, into: block)
      } else {
        block.copyMemory(from: key)
      }
      for index in block.indices { block[index] ^= 0x36 }
      context.hash(UnsafeRawBufferPointer(block), then: message, into: inner)
      for index in block.indices { block[index] ^= 0x36 ^ 0x5C }
      context.hash(UnsafeRawBufferPointer(block), then: UnsafeRawBufferPointer(inner), into: output)
    }
  }

  private static func digest(_ body: (UnsafeMutableRawBufferPointer) -> Void) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: digestCount) { output, count in
      body(UnsafeMutableRawBufferPointer(output))
      count = digestCount
    }
  }
}

/// SHA-256, computed as often as needed with one context.
private struct DigestContext: ~Copyable {
  /// Immutable and reference counted in libcrypto, which allows use from every thread.
  private struct Algorithm: @unchecked Sendable {
    let raw = EVP_MD_fetch(nil, "SHA2-256", nil)
  }

  private static let algorithm = Algorithm()
  private let raw: OpaquePointer

  init() {
    guard let context = EVP_MD_CTX_new() else { preconditionFailure("out of memory") }
    raw = context
  }

  deinit { EVP_MD_CTX_free(raw) }

  /// Hashes two strings as one; `output` has room for 32 bytes.
  func hash(
    _ first: UnsafeRawBufferPointer, then second: UnsafeRawBufferPointer,
    into output: UnsafeMutableRawBufferPointer
  ) {
    let hashed =
      EVP_DigestInit_ex2(raw, DigestContext.algorithm.raw, nil) == 1
      && EVP_DigestUpdate(raw, first.baseAddress, first.count) == 1
      && EVP_DigestUpdate(raw, second.baseAddress, second.count) == 1
      && EVP_DigestFinal_ex(
        raw, output.baseAddress?.assumingMemoryBound(to: UInt8.self), nil) == 1
    // Without SHA-256 there is no vault to speak of; memory is all it could lack otherwise.
    precondition(hashed, "libcrypto has no SHA-256")
  }
}
