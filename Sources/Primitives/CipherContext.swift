import CCrypto

/// An algorithm as libcrypto hands it out: fetched once, never freed.
struct CipherAlgorithm: @unchecked Sendable {
  // Immutable and reference counted in libcrypto, which allows use from every thread.
  let raw: OpaquePointer?
  let name: String

  private init(_ name: String) {
    raw = EVP_CIPHER_fetch(nil, name, nil)
    self.name = name
  }

  static let aes256GCM = CipherAlgorithm("AES-256-GCM")
  static let chaCha20Poly1305 = CipherAlgorithm("ChaCha20-Poly1305")
  static let aes128CBC = CipherAlgorithm("AES-128-CBC")
  static let aes128CTR = CipherAlgorithm("AES-128-CTR")
  static let aes256CBC = CipherAlgorithm("AES-256-CBC")
  static let aes256CTR = CipherAlgorithm("AES-256-CTR")
}

/// A keyed EVP context; each use sets only the nonce anew.
struct CipherContext: ~Copyable {
  enum Direction: Int32 {
    case decrypt = 0
    case encrypt = 1
  }

  let raw: OpaquePointer

  /// Sets algorithm, key and direction; `key` must have the algorithm's length.
  init(_ algorithm: CipherAlgorithm, key: UnsafeRawBufferPointer, direction: Direction)
    throws(CryptoError)
  {
    guard let cipher = algorithm.raw else {
      ERR_clear_error()
      throw .unavailable(algorithm: algorithm.name)
    }
    guard let context = EVP_CIPHER_CTX_new() else { throw .outOfMemory }
    let bytes = key.baseAddress?.bytePointer
    guard EVP_CipherInit_ex(context, cipher, nil, bytes, nil, direction.rawValue) == 1 else {
      EVP_CIPHER_CTX_free(context)
      ERR_clear_error()
      throw .outOfMemory
    }
    raw = context
  }

  deinit { EVP_CIPHER_CTX_free(raw) }
}
