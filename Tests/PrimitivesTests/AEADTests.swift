import Primitives
import TestSupport
import Testing

/// One published example.
struct AEADVector: Sendable, CustomTestStringConvertible {
  let name: String
  let suite: CipherSuite
  let key: [UInt8]
  let nonce: [UInt8]
  let associatedData: [UInt8]
  let plain: [UInt8]
  let cipher: [UInt8]
  let tag: [UInt8]

  var testDescription: String { name }

  private static let gcmKey = hex(
    "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
  private static let gcmPlain = hex(
    """
    d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255
    """)
  private static let gcmCipher = hex(
    """
    522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
    8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad
    """)

  /// Test cases 13 to 16 of the GCM submission to NIST, and RFC 8439, section 2.8.2.
  static let all = [
    AEADVector(
      name: "GCM 13", suite: .aes256GCM, key: [UInt8](repeating: 0, count: 32),
      nonce: [UInt8](repeating: 0, count: 12), associatedData: [], plain: [], cipher: [],
      tag: hex("530f8afbc74536b9a963b4f1c4cb738b")),
    AEADVector(
      name: "GCM 14", suite: .aes256GCM, key: [UInt8](repeating: 0, count: 32),
      nonce: [UInt8](repeating: 0, count: 12), associatedData: [],
      plain: [UInt8](repeating: 0, count: 16), cipher: hex("cea7403d4d606b6e074ec5d3baf39d18"),
      tag: hex("d0d1c8a799996bf0265b98b5d48ab919")),
    AEADVector(
      name: "GCM 15", suite: .aes256GCM, key: gcmKey, nonce: hex("cafebabefacedbaddecaf888"),
      associatedData: [], plain: gcmPlain, cipher: gcmCipher,
      tag: hex("b094dac5d93471bdec1a502270e3cc6c")),
    AEADVector(
      name: "GCM 16", suite: .aes256GCM, key: gcmKey, nonce: hex("cafebabefacedbaddecaf888"),
      associatedData: hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
      plain: [UInt8](gcmPlain[..<60]), cipher: [UInt8](gcmCipher[..<60]),
      tag: hex("76fc6ece0f4e1768cddf8853bb2d551b")),
    AEADVector(
      name: "RFC 8439", suite: .chaCha20Poly1305, key: [UInt8](0x80...0x9F),
      nonce: hex("070000004041424344454647"), associatedData: hex("50515253c0c1c2c3c4c5c6c7"),
      plain: [UInt8](
        ("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
          + "future, sunscreen would be it.").utf8),
      cipher: hex(
        """
        d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6
        3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36
        92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
        3ff4def08e4b7a9de576d26586cec64b6116
        """),
      tag: hex("1ae10b594f09e26a7e902ecbd0600691")),
  ]
}

/// Array forms of the two calls.
extension AEAD {
  convenience init(_ suite: CipherSuite, _ key: [UInt8]) throws {
    try self.init(suite: suite, key: SecretBytes(copying: key))
  }

  func seal(_ plain: [UInt8], _ nonce: [UInt8], _ data: [UInt8]) -> (cipher: [UInt8], tag: [UInt8])
  {
    var cipher = [UInt8](repeating: 0xAA, count: plain.count + 1)
    var tag = [UInt8](repeating: 0, count: AEAD.tagCount)
    cipher.withUnsafeMutableBytes { cipher in
      guard let output = cipher.baseAddress else { return }
      data.withUnsafeBytes { data in
        plain.withUnsafeBytes { plain in
          seal(nonce: nonce, associatedData: data, plain: plain, into: output, tag: &tag)
        }
      }
    }
    #expect(cipher.popLast() == 0xAA, "a byte behind the output was written")
    return (cipher, tag)
  }

  /// What was opened; on failure the error, after checking that nothing is left in the output.
  func open(
    _ cipher: [UInt8], _ tag: [UInt8], _ nonce: [UInt8], _ data: [UInt8]
  ) -> Result<[UInt8], CryptoError> {
    var plain = [UInt8](repeating: 0xAA, count: cipher.count + 1)
    let result = plain.withUnsafeMutableBytes { plain -> Result<Void, CryptoError> in
      guard let output = plain.baseAddress else { return .success(()) }
      return data.withUnsafeBytes { data in
        cipher.withUnsafeBytes { cipher in
          do throws(CryptoError) {
            return .success(
              try open(nonce: nonce, associatedData: data, cipher: cipher, into: output, tag: tag))
          } catch {
            return .failure(error)
          }
        }
      }
    }
    #expect(plain.popLast() == 0xAA, "a byte behind the output was written")
    if case .failure = result { #expect(plain.allSatisfy { $0 == 0 }) }
    return result.map { plain }
  }
}

@Suite struct AEADTests {
  @Test(arguments: AEADVector.all)
  func sealingGivesThePublishedBytes(vector: AEADVector) throws {
    let aead = try AEAD(vector.suite, vector.key)
    // Twice, and after a different message: the context must not remember anything.
    for _ in 0..<2 {
      let (cipher, tag) = aead.seal(vector.plain, vector.nonce, vector.associatedData)
      #expect(cipher == vector.cipher)
      #expect(tag == vector.tag)
      _ = aead.seal([1, 2, 3], [UInt8](repeating: 9, count: 12), [4])
      let opened = aead.open(cipher, tag, vector.nonce, vector.associatedData)
      #expect(opened == .success(vector.plain))
    }
  }

  @Test(arguments: AEADVector.all)
  func everyChangedBitIsRejectedAndTheOutputWiped(vector: AEADVector) throws {
    let aead = try AEAD(vector.suite, vector.key)
    typealias Bytes = [UInt8]
    func expectRejection(
      _ change: (inout Bytes, inout Bytes, inout Bytes, inout Bytes) -> Void
    ) {
      var (cipher, tag) = (vector.cipher, vector.tag)
      var (nonce, data) = (vector.nonce, vector.associatedData)
      change(&cipher, &tag, &nonce, &data)
      #expect(aead.open(cipher, tag, nonce, data) == .failure(.authenticationFailed))
    }
    for bit in 0..<8 {
      for index in vector.cipher.indices {
        expectRejection { cipher, _, _, _ in cipher[index] ^= 1 << bit }
      }
      for index in vector.tag.indices { expectRejection { _, tag, _, _ in tag[index] ^= 1 << bit } }
      for index in vector.nonce.indices {
        expectRejection { _, _, nonce, _ in nonce[index] ^= 1 << bit }
      }
      for index in vector.associatedData.indices {
        expectRejection { _, _, _, data in data[index] ^= 1 << bit }
      }
    }
    expectRejection { _, _, _, data in data.append(0) }
    expectRejection { cipher, _, _, _ in cipher.append(0) }
    // A rejection leaves the context usable.
    let opened = aead.open(vector.cipher, vector.tag, vector.nonce, vector.associatedData)
    #expect(opened == .success(vector.plain))
  }

  @Test(arguments: CipherSuite.allCases)
  func sealingAndOpeningWorkInPlace(suite: CipherSuite) throws {
    var random = SeededRandom(for: "aead in place \(suite)")
    let aead = try AEAD(suite, random.bytes(32))
    for count in [1, 15, 16, 17, 4095, 4096, 131072] {
      let plain = random.bytes(count)
      let nonce = random.bytes(12)
      let apart = aead.seal(plain, nonce, [])
      var bytes = plain
      var tag = [UInt8](repeating: 0, count: AEAD.tagCount)
      try bytes.withUnsafeMutableBytes { bytes in
        let memory = try #require(bytes.baseAddress)
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        aead.seal(
          nonce: nonce, associatedData: none, plain: UnsafeRawBufferPointer(bytes), into: memory,
          tag: &tag)
        #expect([UInt8](bytes) == apart.cipher && tag == apart.tag)
        try aead.open(
          nonce: nonce, associatedData: none, cipher: UnsafeRawBufferPointer(bytes), into: memory,
          tag: tag)
      }
      #expect(bytes == plain)
    }
  }

  @Test(arguments: CipherSuite.allCases)
  func associatedDataAloneIsAuthenticated(suite: CipherSuite) throws {
    let aead = try AEAD(suite, [UInt8](repeating: 7, count: 32))
    let nonce = [UInt8](repeating: 3, count: 12)
    let (cipher, tag) = aead.seal([], nonce, [1, 2, 3])
    #expect(cipher.isEmpty)
    #expect(aead.open([], tag, nonce, [1, 2, 3]) == .success([]))
    #expect(aead.open([], tag, nonce, [1, 2, 4]) == .failure(.authenticationFailed))
    #expect(aead.open([], tag, nonce, []) == .failure(.authenticationFailed))
  }

  @Test func anotherKeyOrSuiteIsRejected() throws {
    let nonce = [UInt8](repeating: 0, count: 12)
    let right = try AEAD(.aes256GCM, [UInt8](repeating: 1, count: 32))
    let (cipher, tag) = right.seal([1, 2, 3], nonce, [])
    for wrong in [
      try AEAD(.aes256GCM, [UInt8](repeating: 2, count: 32)),
      try AEAD(.chaCha20Poly1305, [UInt8](repeating: 1, count: 32)),
    ] {
      #expect(wrong.open(cipher, tag, nonce, []) == .failure(.authenticationFailed))
    }
  }
}
