import CCrypto

/// Hashes and key derivation.
public enum KeyDerivation {
  /// HKDF with SHA-256, RFC 5869.
  ///
  /// - Parameters:
  ///   - secret: Input keying material.
  ///   - salt: May be empty.
  ///   - info: Context and purpose.
  ///   - count: Length of the result in bytes, 1 to 8160.
  /// - Returns: `count` bytes.
  public static func hkdfSHA256(
    secret: SecretBytes, salt: [UInt8] = [], info: [UInt8], count: Int = 32
  ) -> SecretBytes {
    precondition((1...255 * 32).contains(count), "HKDF-SHA256 gives 1 to 8160 bytes")
    // Extract, then expand; the running block and its input stay in wiped memory.
    let pseudorandomKey = SecretBytes(count: 32) { output in
      salt.withUnsafeBytes { salt in
        hmac(key: salt, message: UnsafeRawBufferPointer(secret.storage), into: output)
      }
    }
    withExtendedLifetime(secret) {}
    return SecretBytes(count: count) { output in
      expand(UnsafeRawBufferPointer(pseudorandomKey.storage), info: info, into: output)
      withExtendedLifetime(pseudorandomKey) {}
    }
  }

  private static func expand(
    _ key: UnsafeRawBufferPointer, info: [UInt8], into output: UnsafeMutableRawBufferPointer
  ) {
    withUnsafeTemporaryAllocation(byteCount: 32 + info.count + 1 + 32, alignment: 8) { scratch in
      defer { scratch.wipe() }
      let block = UnsafeMutableRawBufferPointer(rebasing: scratch[(32 + info.count + 1)...])
      UnsafeMutableRawBufferPointer(rebasing: scratch[32...]).copyBytes(from: info)
      var done = 0
      var counter: UInt8 = 1
      while done < output.count {
        scratch[32 + info.count] = counter
        let first = counter == 1 ? 32 : 0
        hmac(
          key: key,
          message: UnsafeRawBufferPointer(rebasing: scratch[first..<(32 + info.count + 1)]),
          into: block)
        scratch.copyMemory(from: UnsafeRawBufferPointer(block))
        let part = min(32, output.count - done)
        UnsafeMutableRawBufferPointer(rebasing: output[done...])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: block[..<part]))
        done += part
        counter &+= 1
      }
    }
  }

  /// scrypt, RFC 7914.
  ///
  /// - Parameters:
  ///   - passphrase: The passphrase's bytes.
  ///   - salt: Distinct for each use.
  ///   - logN: Binary logarithm of the cost N.
  ///   - r: Block size.
  ///   - p: Parallelisation.
  ///   - count: Length of the result in bytes.
  ///   - memoryLimit: The most that 128 * N * r may be, in bytes.
  /// - Returns: `count` bytes.
  /// - Throws: `.invalidParameters` where they are not allowed or ask for more memory than the
  ///   limit, `.outOfMemory`.
  public static func scrypt(
    passphrase: SecretBytes, salt: [UInt8], logN: UInt8, r: UInt32, p: UInt32, count: Int = 32,
    memoryLimit: UInt64 = 1 << 32
  ) throws(CryptoError) -> SecretBytes {
    // The parameters may come from an untrusted header. Bounded like this no product overflows.
    guard (1...32).contains(logN), (1...1 << 20).contains(r), (1...1 << 20).contains(p),
      UInt64(r) * UInt64(p) < 1 << 30, UInt32(logN) < 16 * r
    else { throw .invalidParameters }
    let cost = UInt64(1) << UInt64(logN)
    guard 128 * UInt64(r) * cost <= memoryLimit else { throw .invalidParameters }
    // What the computation itself needs comes on top: p blocks and two more.
    let memory = 128 * UInt64(r) * (cost + UInt64(p) + 2)
    return try SecretBytes(count: count) { output throws(CryptoError) in
      let derived = passphrase.withUnsafeBytes { passphrase in
        salt.withUnsafeBytes { salt in
          EVP_PBE_scrypt(
            passphrase.baseAddress?.assumingMemoryBound(to: CChar.self), passphrase.count,
            salt.baseAddress?.bytePointer, salt.count, cost, UInt64(r), UInt64(p), memory,
            output.baseAddress?.assumingMemoryBound(to: UInt8.self), output.count)
        }
      }
      guard derived == 1 else {
        ERR_clear_error()
        throw .outOfMemory
      }
    }
  }

  /// Whether the installed libcrypto offers Argon2id (OpenSSL 3.2 and later).
  public static var offersArgon2id: Bool { argon2 != nil }

  /// Argon2id version 1.3, RFC 9106, computed by one thread.
  ///
  /// - Parameters:
  ///   - passphrase: The passphrase's bytes.
  ///   - salt: At least 8 bytes, distinct for each use.
  ///   - memory: Memory cost in KiB.
  ///   - iterations: Number of passes.
  ///   - lanes: Degree of parallelism.
  ///   - count: Length of the result in bytes.
  ///   - memoryLimit: Bytes of memory the parameters may ask for.
  /// - Returns: `count` bytes.
  /// - Throws: `.unavailable` where libcrypto lacks it, `.invalidParameters`, `.outOfMemory`.
  public static func argon2id(
    passphrase: SecretBytes, salt: [UInt8], memory: UInt32, iterations: UInt32, lanes: UInt32,
    count: Int = 32, memoryLimit: UInt64 = 1 << 32
  ) throws(CryptoError) -> SecretBytes {
    guard let kdf = argon2 else { throw .unavailable(algorithm: "Argon2id") }
    guard (1...255).contains(lanes), iterations >= 1, memory >= 8 * lanes, salt.count >= 8,
      count >= 4, UInt64(memory) * 1024 <= memoryLimit
    else { throw .invalidParameters }
    guard let context = EVP_KDF_CTX_new(kdf.raw) else { throw .outOfMemory }
    defer { EVP_KDF_CTX_free(context) }
    return try SecretBytes(count: count) { output throws(CryptoError) in
      var numbers = (memory, iterations, lanes)
      let derived = withUnsafeMutableBytes(of: &numbers) { numbers in
        salt.withUnsafeBytes { salt in
          let parameters = [
            parameter("pass", OSSL_PARAM_OCTET_STRING, UnsafeRawBufferPointer(passphrase.storage)),
            parameter("salt", OSSL_PARAM_OCTET_STRING, salt),
            parameter("memcost", OSSL_PARAM_UNSIGNED_INTEGER, .init(rebasing: numbers[0..<4])),
            parameter("iter", OSSL_PARAM_UNSIGNED_INTEGER, .init(rebasing: numbers[4..<8])),
            parameter("lanes", OSSL_PARAM_UNSIGNED_INTEGER, .init(rebasing: numbers[8..<12])),
            OSSL_PARAM_construct_end(),
          ]
          return EVP_KDF_derive(
            context, output.baseAddress?.assumingMemoryBound(to: UInt8.self), output.count,
            parameters)
        }
      }
      withExtendedLifetime(passphrase) {}
      guard derived == 1 else {
        ERR_clear_error()
        throw .outOfMemory
      }
    }
  }

  /// Immutable and reference counted in libcrypto, which allows use from every thread.
  private struct Algorithm: @unchecked Sendable {
    let raw: OpaquePointer
  }

  private static let argon2: Algorithm? = {
    guard let raw = EVP_KDF_fetch(nil, "ARGON2ID", nil) else {
      ERR_clear_error()
      return nil
    }
    return Algorithm(raw: raw)
  }()

  private static func parameter(
    _ name: StaticString, _ type: Int32, _ bytes: UnsafeRawBufferPointer
  ) -> OSSL_PARAM {
    // SAFETY: a static string is permanent and ends with a zero byte; libcrypto only reads the value.
    OSSL_PARAM(
      key: UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self),
      data_type: UInt32(type), data: UnsafeMutableRawPointer(mutating: bytes.baseAddress),
      data_size: bytes.count, return_size: Int(bitPattern: UInt.max))
  }
}
