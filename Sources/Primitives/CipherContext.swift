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
  static let aes128ECB = CipherAlgorithm("AES-128-ECB")
  static let aes256CBC = CipherAlgorithm("AES-256-CBC")
  static let aes256ECB = CipherAlgorithm("AES-256-ECB")
}

/// A keyed EVP context, for the encrypting direction until a use says otherwise.
struct CipherContext: ~Copyable {
  let raw: OpaquePointer

  /// Sets algorithm and key, which must have the algorithm's length, and begins with a vector of zeros.
  init(_ algorithm: CipherAlgorithm, key: UnsafeRawBufferPointer) throws(CryptoError) {
    guard let cipher = algorithm.raw else {
      ERR_clear_error()
      throw .unavailable(algorithm: algorithm.name)
    }
    guard let context = EVP_CIPHER_CTX_new() else { throw .outOfMemory }
    let bytes = key.baseAddress?.bytePointer
    let keyed = withUnsafeBytes(of: Block.zero) { vector in
      EVP_EncryptInit_ex(context, cipher, nil, bytes, vector.baseAddress?.bytePointer) == 1
    }
    guard keyed else {
      EVP_CIPHER_CTX_free(context)
      ERR_clear_error()
      throw .outOfMemory
    }
    raw = context
  }

  deinit { EVP_CIPHER_CTX_free(raw) }
}
