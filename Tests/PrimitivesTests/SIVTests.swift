@testable import Primitives
import TestSupport
import Testing

@Suite struct SIVTests {
  /// RFC 5297, appendices A.1 and A.2 (AES-128).
  @Test func sealingGivesTheBytesOfTheRFC() throws {
    let first = try SIV(
      anyKey: SecretBytes(
        copying: hex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")))
    #expect(
      try first.seal(
        hex("112233445566778899aabbccddee"),
        associatedData: [hex("101112131415161718191a1b1c1d1e1f2021222324252627")])
        == hex("85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"))
    let second = try SIV(
      anyKey: SecretBytes(
        copying: hex("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f")))
    #expect(
      try second.seal(
        [UInt8]("this is some plaintext to encrypt using SIV-AES".utf8),
        associatedData: [
          hex(
            """
            00112233445566778899aabbccddeeffdeaddadadeaddada
            ffeeddccbbaa99887766554433221100
            """),
          hex("102030405060708090a0"), hex("09f911029d74e35bd84156c5635688c0"),
        ])
        == hex(
          """
          7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17
          dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d
          """))
  }

  /// Made with libcrypto's own AES-256-SIV; the first is also in its test suite.
  @Test func sealingAgreesWithAnotherImplementation() throws {
    let published = try SIV(
      key: SecretBytes(
        copying: hex(
          """
          fffefdfcfbfaf9f8f7f6f5f4f3f2f1f06f6e6d6c6b6a69686766656463626160
          f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f
          """)))
    #expect(
      try published.seal(
        hex("112233445566778899aabbccddee"),
        associatedData: [hex("101112131415161718191a1b1c1d1e1f2021222324252627")])
        == hex("f125274c598065cfc26b0e71575029088b035217e380cac8919ee800c126"))
    let siv = try SIV(key: SecretBytes(copying: [UInt8](0..<64)))
    #expect(
      try siv.seal(
        [UInt8]("holiday.jpeg\0\0\0\0".utf8),
        associatedData: [[UInt8](0..<16), [UInt8]("f".utf8)])
        == hex("e26417519098f20a67d04c26618c169db69a5e47eb3dac32c0e747737be8b5ce"))
    #expect(
      try siv.seal([UInt8](0..<48), associatedData: [[UInt8](0..<16), []])
        == hex(
          """
          cf9597555c3055b5ea0e0c3803dc8956831fbcd058381133e92673abd7ea5d54
          f869367af25ce5eab6aa701a6886c4754690942497adcbe49d11ba15a461e112
          """))
    #expect(
      try siv.seal([UInt8]("a".utf8), associatedData: [])
        == hex("ba092609c39c78a53203bb6c759c7396d9"))
  }

  @Test func everyLengthReturnsAndIsDeterministic() throws {
    var random = SeededRandom(for: "siv lengths")
    let siv = try SIV(key: SecretBytes(copying: random.bytes(64)))
    for count in Array(0...70) + [255, 256, 272, 4096] {
      let plain = random.bytes(count)
      let data = [random.bytes(16), random.bytes(count % 5)]
      let sealed = try siv.seal(plain, associatedData: data)
      #expect(sealed.count == count + SIV.overhead)
      #expect(try siv.seal(plain, associatedData: data) == sealed)
      #expect(try siv.open(sealed, associatedData: data) == plain)
    }
  }

  @Test(arguments: [0, 1, 15, 16, 17, 48])
  func everyChangedBitIsRejected(count: Int) throws {
    var random = SeededRandom(for: "siv tamper \(count)")
    let siv = try SIV(key: SecretBytes(copying: random.bytes(64)))
    let data = [random.bytes(16), random.bytes(2)]
    let sealed = try siv.seal(random.bytes(count), associatedData: data)
    for index in sealed.indices {
      for bit in 0..<8 {
        var changed = sealed
        changed[index] ^= 1 << bit
        #expect(throws: CryptoError.authenticationFailed) {
          try siv.open(changed, associatedData: data)
        }
      }
    }
    for changed in [
      [data[0]], [data[1], data[0]], [data[0] + data[1]], data + [[]], [[], data[0], data[1]], [],
    ] {
      #expect(throws: CryptoError.authenticationFailed) {
        try siv.open(sealed, associatedData: changed)
      }
    }
  }

  @Test func shorterThanAVectorIsRejected() throws {
    let siv = try SIV(key: .random(count: 64))
    for count in 0..<16 {
      #expect(throws: CryptoError.authenticationFailed) {
        try siv.open([UInt8](repeating: 0, count: count), associatedData: [])
      }
    }
  }

  @Test func threadsShareOneKey() async throws {
    let siv = try SIV(key: SecretBytes(copying: [UInt8](0..<64)))
    let expected = try siv.seal([1, 2, 3], associatedData: [[4]])
    await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<8 {
        group.addTask {
          (0..<200).allSatisfy { _ in
            (try? siv.seal([1, 2, 3], associatedData: [[4]])) == expected
              && (try? siv.open(expected, associatedData: [[4]])) == [1, 2, 3]
          }
        }
      }
      for await same in group { #expect(same) }
    }
  }
}
