import CCrypto
import CLinux

/// The AEAD algorithms of the on-disk format; both take 32-byte keys, 12-byte nonces, 16-byte tags.
public enum CipherSuite: UInt8, Sendable, CaseIterable {
  /// AES-256-GCM, NIST SP 800-38D.
  case aes256GCM = 1
  /// ChaCha20-Poly1305, RFC 8439.
  case chaCha20Poly1305 = 2

  /// The faster of the two here: AES where the processor has instructions for it.
  public static let preferred: CipherSuite =
    scrim_has_aes_instructions() != 0 ? .aes256GCM : .chaCha20Poly1305

  var algorithm: String {
    switch self {
    case .aes256GCM: "AES-256-GCM"
    case .chaCha20Poly1305: "ChaCha20-Poly1305"
    }
  }
}

/// Authenticated encryption under one key, with a context that is set up once and reused.
///
/// An instance may move between threads but serves one call at a time: its owner guards it with a
/// lock or keeps one per thread. Sealing and opening allocate nothing.
public final class AEAD: @unchecked Sendable {
  /// Length of a key, in bytes.
  public static let keyCount = 32
  /// Length of a nonce, in bytes.
  public static let nonceCount = 12
  /// Length of a tag, in bytes.
  public static let tagCount = 16

  /// For both directions: these algorithms expand a key for both in the same way.
  private let context: CipherContext

  /// Expands `key`.
  ///
  /// - Parameters:
  ///   - suite: The algorithm.
  ///   - key: Exactly 32 bytes, copied into libcrypto's context and wiped with it.
  /// - Throws: `.unavailable` where libcrypto lacks the algorithm, `.outOfMemory`.
  public init(suite: CipherSuite, key: UnsafeRawBufferPointer) throws(CryptoError) {
    precondition(key.count == AEAD.keyCount, "an AEAD key has 32 bytes")
    let cipher =
      switch suite {
      case .aes256GCM: CipherAlgorithm.aes256GCM
      case .chaCha20Poly1305: CipherAlgorithm.chaCha20Poly1305
      }
    context = try CipherContext(cipher, key: key)
  }

  /// Expands a secret of exactly 32 bytes.
  ///
  /// - Parameters:
  ///   - suite: The algorithm.
  ///   - key: Exactly 32 bytes.
  /// - Throws: `.unavailable` where libcrypto lacks the algorithm, `.outOfMemory`.
  public convenience init(suite: CipherSuite, key: SecretBytes) throws(CryptoError) {
    // SAFETY: the context copies the key; `key` lives to the end of this call.
    try self.init(suite: suite, key: UnsafeRawBufferPointer(key.storage))
    withExtendedLifetime(key) {}
  }

  /// Encrypts and authenticates.
  ///
  /// - Parameters:
  ///   - nonce: 12 bytes, never used before under this key.
  ///   - associatedData: Bytes authenticated but not stored; may be empty.
  ///   - plain: At most 2 GiB - 1 bytes; may be empty.
  ///   - cipher: Room for `plain.count` bytes; `plain` itself, or apart from it.
  ///   - tag: Room for 16 bytes.
  public func seal(
    nonce: UnsafeRawPointer, associatedData: UnsafeRawBufferPointer,
    plain: UnsafeRawBufferPointer, into cipher: UnsafeMutableRawPointer,
    tag: UnsafeMutableRawPointer
  ) {
    let context = context.raw
    let output = cipher.assumingMemoryBound(to: UInt8.self)
    var written: Int32 = 0
    var sealed = EVP_EncryptInit_ex(context, nil, nil, nil, nonce.bytePointer) == 1
    if let data = associatedData.baseAddress, !associatedData.isEmpty {
      sealed =
        sealed
        && EVP_EncryptUpdate(
          context, nil, &written, data.bytePointer, Int32(associatedData.count)) == 1
    }
    if let data = plain.baseAddress, !plain.isEmpty {
      sealed =
        sealed
        && EVP_EncryptUpdate(context, output, &written, data.bytePointer, Int32(plain.count)) == 1
    }
    sealed = sealed && EVP_EncryptFinal_ex(context, output, &written) == 1
    sealed =
      sealed
      && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Int32(AEAD.tagCount), tag) == 1
    // With a keyed context and lengths that fit an Int32, libcrypto has no way to fail here; going
    // on would store unencrypted bytes.
    precondition(sealed, "libcrypto refused to seal")
  }

  /// Verifies and decrypts. On failure the output is wiped (so is the ciphertext where it is the
  /// same memory).
  ///
  /// - Parameters:
  ///   - nonce: The 12 bytes sealed with.
  ///   - associatedData: The bytes sealed with.
  ///   - cipher: At most 2 GiB - 1 bytes; may be empty.
  ///   - plain: Room for `cipher.count` bytes; `cipher` itself, or apart from it.
  ///   - tag: The 16 bytes sealing gave.
  /// - Throws: `.authenticationFailed`.
  public func open(
    nonce: UnsafeRawPointer, associatedData: UnsafeRawBufferPointer,
    cipher: UnsafeRawBufferPointer, into plain: UnsafeMutableRawPointer, tag: UnsafeRawPointer
  ) throws(CryptoError) {
    let context = context.raw
    let output = plain.assumingMemoryBound(to: UInt8.self)
    var written: Int32 = 0
    var opened = EVP_DecryptInit_ex(context, nil, nil, nil, nonce.bytePointer) == 1
    if let data = associatedData.baseAddress, !associatedData.isEmpty {
      opened =
        opened
        && EVP_DecryptUpdate(
          context, nil, &written, data.bytePointer, Int32(associatedData.count)) == 1
    }
    if let data = cipher.baseAddress, !cipher.isEmpty {
      opened =
        opened
        && EVP_DecryptUpdate(context, output, &written, data.bytePointer, Int32(cipher.count)) == 1
    }
    // SAFETY: setting the tag only reads it; the C interface lacks the const.
    opened =
      opened
      && EVP_CIPHER_CTX_ctrl(
        context, EVP_CTRL_AEAD_SET_TAG, Int32(AEAD.tagCount), UnsafeMutableRawPointer(mutating: tag)
      ) == 1
    opened = opened && EVP_DecryptFinal_ex(context, output, &written) == 1
    guard opened else {
      OPENSSL_cleanse(plain, cipher.count)
      // A failed call may have queued a report in this thread's memory.
      ERR_clear_error()
      throw .authenticationFailed
    }
  }
}

extension UnsafeRawPointer {
  /// The same address as libcrypto's interfaces take it.
  var bytePointer: UnsafePointer<UInt8> { assumingMemoryBound(to: UInt8.self) }
}
