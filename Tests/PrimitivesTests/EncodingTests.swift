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

  /// RFC 4648, section 10, without the padding.
  @Test func base32MatchesTheStandard() {
    let vectors = [
      "": "", "f": "MY", "fo": "MZXQ", "foo": "MZXW6", "foob": "MZXW6YQ", "fooba": "MZXW6YTB",
      "foobar": "MZXW6YTBOI",
    ]
    for (plain, text) in vectors {
      #expect(Base32.encode([UInt8](plain.utf8)) == [UInt8](text.utf8))
      #expect(Base32.decode([UInt8](text.utf8)) == [UInt8](plain.utf8))
    }
  }

  @Test func base32ReadsWhatPeopleWrite() {
    #expect(Base32.decode([UInt8]("mzxw-6YTB oi\n".utf8)) == [UInt8]("foobar".utf8))
    #expect(Base32.decode([UInt8]("mzxw6yt80l".utf8)) == Base32.decode([UInt8]("MZXW6YTBOL".utf8)))
    #expect(Base32.decode([UInt8]("1A".utf8)) == Base32.decode([UInt8]("IA".utf8)))
  }

  @Test(arguments: ["MZ", "M", "MZX", "M9", "M*", "MY======", "éA"])
  func base32RejectsWhatStandsForNothing(text: String) {
    #expect(Base32.decode([UInt8](text.utf8)) == nil)
  }
}
