import Primitives
import TestSupport
import Testing

@Suite struct KeyDerivationTests {
  private func revealed(_ secret: SecretBytes) -> String {
    hex(secret.withUnsafeBytes { [UInt8]($0) })
  }

  private func joined(_ lines: String) -> String { hex(hex(lines)) }

  private func secret(_ text: String) -> SecretBytes { SecretBytes(copying: [UInt8](text.utf8)) }

  /// RFC 5869, appendices A.1 to A.3.
  @Test func hkdfGivesTheBytesOfTheRFC() {
    let short = SecretBytes(copying: [UInt8](repeating: 0x0B, count: 22))
    #expect(
      revealed(
        KeyDerivation.hkdfSHA256(
          secret: short, salt: [UInt8](0...12), info: [UInt8](0xF0...0xF9), count: 42))
        == joined(
          """
          3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf
          34007208d5b887185865
          """))
    #expect(
      revealed(
        KeyDerivation.hkdfSHA256(
          secret: SecretBytes(copying: [UInt8](0...0x4F)), salt: [UInt8](0x60...0xAF),
          info: [UInt8](0xB0...0xFF), count: 82))
        == joined(
          """
          b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c
          59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71
          cc30c58179ec3e87c14c01d5c1f3434f1d87
          """))
    #expect(
      revealed(KeyDerivation.hkdfSHA256(secret: short, info: [], count: 42))
        == joined(
          """
          8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d
          9d201395faa4b61a96c8
          """))
  }

  @Test func hkdfGivesAPrefixForFewerBytes() {
    let secret = SecretBytes(copying: [UInt8](0..<32))
    let longest = KeyDerivation.hkdfSHA256(secret: secret, info: [1], count: 255 * 32)
    for count in [1, 31, 32, 33, 64, 8159] {
      let shorter = KeyDerivation.hkdfSHA256(secret: secret, info: [1], count: count)
      #expect(shorter == longest.slice(0..<count))
    }
  }

  /// RFC 7914, section 12, without the one that takes a gigabyte.
  @Test func scryptGivesTheBytesOfTheRFC() throws {
    #expect(
      revealed(
        try KeyDerivation.scrypt(passphrase: secret(""), salt: [], logN: 4, r: 1, p: 1, count: 64))
        == joined(
          """
          77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442
          fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906
          """))
    #expect(
      revealed(
        try KeyDerivation.scrypt(
          passphrase: secret("password"), salt: [UInt8]("NaCl".utf8), logN: 10, r: 8, p: 16,
          count: 64))
        == joined(
          """
          fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162
          2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640
          """))
    #expect(
      revealed(
        try KeyDerivation.scrypt(
          passphrase: secret("pleaseletmein"), salt: [UInt8]("SodiumChloride".utf8), logN: 14,
          r: 8, p: 1, count: 64))
        == joined(
          """
          7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2
          d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887
          """))
  }

  @Test(
    arguments: [
      (0, 8, 1), (64, 8, 1), (255, 1, 1), (16, 1, 1), (14, 0, 1), (14, 8, 0), (25, 32, 1),
      (32, UInt32.max, UInt32.max), (20, 1 << 20, 1), (14, 1 << 15, 1 << 15),
    ] as [(UInt8, UInt32, UInt32)])
  func scryptRefusesImpossibleAndExcessiveParameters(logN: UInt8, r: UInt32, p: UInt32) {
    #expect(throws: CryptoError.invalidParameters) {
      try KeyDerivation.scrypt(passphrase: secret("x"), salt: [1], logN: logN, r: r, p: p)
    }
  }

  @Test func scryptKeepsToTheCallersMemoryLimit() {
    #expect(throws: CryptoError.invalidParameters) {
      try KeyDerivation.scrypt(
        passphrase: secret("x"), salt: [1], logN: 10, r: 8, p: 1, memoryLimit: 1 << 20 - 1)
    }
    #expect(throws: Never.self) {
      try KeyDerivation.scrypt(
        passphrase: secret("x"), salt: [1], logN: 10, r: 8, p: 1, memoryLimit: 1 << 20)
    }
  }

  @Test(.enabled(if: !KeyDerivation.offersArgon2id))
  func argon2idIsReportedAsUnavailable() {
    #expect(throws: CryptoError.unavailable(algorithm: "Argon2id")) {
      try KeyDerivation.argon2id(
        passphrase: secret("password"), salt: [UInt8]("somesalt".utf8), memory: 65536,
        iterations: 2, lanes: 1)
    }
  }

  /// From the tests of the reference implementation.
  @Test(.enabled(if: KeyDerivation.offersArgon2id))
  func argon2idGivesTheReferenceBytes() throws {
    let key = try KeyDerivation.argon2id(
      passphrase: secret("password"), salt: [UInt8]("somesalt".utf8), memory: 65536,
      iterations: 2, lanes: 1)
    #expect(revealed(key) == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7")
  }

  /// RFC 4231, test cases 2 and 6; FIPS 180-4's examples.
  @Test func hashesGiveThePublishedBytes() {
    #expect(
      hex(
        KeyDerivation.hmacSHA256(
          key: secret("Jefe"), message: [UInt8]("what do ya want for nothing?".utf8)))
        == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    #expect(
      hex(
        KeyDerivation.hmacSHA256(
          key: SecretBytes(copying: [UInt8](repeating: 0xAA, count: 131)),
          message: [UInt8]("Test Using Larger Than Block-Size Key - Hash Key First".utf8)))
        == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    #expect(
      hex(KeyDerivation.hmacSHA256(key: secret(""), message: []))
        == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
    #expect(
      hex(KeyDerivation.sha256([UInt8]("abc".utf8)))
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      hex(KeyDerivation.sha256([]))
        == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
  }
}
