import Primitives
import TestSupport
import Testing

@Suite struct EncodingTests {
  /// RFC 4648, section 10, without the padding.
  @Test func base64URLMatchesTheStandard() {
    let vectors = [
      "": "", "f": "Zg", "fo": "Zm8", "foo": "Zm9v", "foob": "Zm9vYg", "fooba": "Zm9vYmE",
      "foobar": "Zm9vYmFy",
    ]
    for (plain, text) in vectors {
      #expect(Base64URL.encode([UInt8](plain.utf8)) == [UInt8](text.utf8))
      #expect(Base64URL.decode([UInt8](text.utf8)) == [UInt8](plain.utf8))
    }
    #expect(Base64URL.encode([0xFB, 0xFF, 0xBF]) == [UInt8]("-_-_".utf8))
  }

  @Test(arguments: ["A", "Zh", "Zm9", "Zg==", "Zm8=", "Zm+v", "Zm/v", "Zm9v ", "Zm9vA", "Zm\u{0}v"])
  func base64URLRejectsWhatItWouldNotWrite(text: String) {
    #expect(Base64URL.decode([UInt8](text.utf8)) == nil)
  }

  @Test func encodingsReturnEveryLength() {
    var random = SeededRandom(for: "encodings")
    for count in 0..<130 {
      let bytes = random.bytes(count)
      #expect(Base64URL.decode(Base64URL.encode(bytes)) == bytes)
      #expect(Base64URL.encode(bytes).count == Base64URL.encodedCount(count))
      #expect(Base32.decode(Base32.encode(bytes)) == bytes)
    }
  }

  @Test func base32ReadsWhatPeopleWrite() {
    let bytes: [UInt8] = [0, 1, 2, 0xFF, 0x44, 0x32]
    let text = String(decoding: Base32.encode(bytes), as: UTF8.self)
    #expect(text == "000G40ZZ8GS0")
    #expect(Base32.decode([UInt8]("oOog-4ozz 8gSO\n".utf8)) == bytes)
    #expect(Base32.decode([UInt8]("LI".utf8)) == nil)
    #expect(Base32.decode([UInt8]("04".utf8)) == [1])
  }

  @Test(arguments: ["U0", "0", "000", "0*", "01", "é0"])
  func base32RejectsWhatStandsForNothing(text: String) {
    #expect(Base32.decode([UInt8](text.utf8)) == nil)
  }
}
