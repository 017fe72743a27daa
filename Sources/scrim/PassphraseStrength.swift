import Glibc
import Primitives

/// A rough idea of how hard a passphrase is to guess, as a hint to whoever makes one up. Nothing is refused by it.
struct PassphraseStrength {
  /// How many bits of chance it may hold, at most.
  let bits: Int

  /// In words, with what to do.
  var hint: String {
    switch bits {
    case ..<40: "weak, about \(bits) bits; five or six words picked at random are strong"
    case 40..<64: "fair, about \(bits) bits"
    default: "strong, about \(bits) bits"
    }
  }

  init(_ secret: SecretBytes) {
    bits = secret.withUnsafeBytes { text in
      let byCharacter = Self.characters(text)
      let words = Self.words(text)
      // A word of everyday language is one of some eight thousand, however long it is.
      if words > 1 { return min(byCharacter, words * 13) }
      return Self.looksLikeAWord(text) ? min(byCharacter, 17 + Self.rest(text) * 3) : byCharacter
    }
  }

  /// By the kinds of characters; those that go on with a run (`aaa`, `123`) do not count.
  private static func characters(_ text: UnsafeRawBufferPointer) -> Int {
    var pool = 0.0
    var kinds: Set<Int> = []
    var count = 0
    for (index, byte) in text.enumerated() {
      let (kind, size) = kind(byte)
      if kinds.insert(kind).inserted { pool += size }
      let step = index > 0 ? Int(byte) - Int(text[index - 1]) : 0
      let before = index > 1 ? Int(text[index - 1]) - Int(text[index - 2]) : 2
      if index < 2 || abs(step) > 1 || step != before { count += 1 }
    }
    return Int(Double(count) * log2(max(pool, 1)))
  }

  private static func kind(_ byte: UInt8) -> (kind: Int, size: Double) {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"): (0, 26)
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): (1, 26)
    case UInt8(ascii: "0")...UInt8(ascii: "9"): (2, 10)
    case 0x80...: (3, 64)
    default: (4, 33)
    }
  }

  private static func isLetter(_ byte: UInt8) -> Bool { kind(byte | 0x20).kind == 0 }

  /// Runs of two letters or more.
  private static func words(_ text: UnsafeRawBufferPointer) -> Int {
    text.split { !isLetter($0) && $0 < 0x80 }.count { $0.count > 1 }
  }

  /// Whether it begins with what could be a word of a language.
  private static func looksLikeAWord(_ text: UnsafeRawBufferPointer) -> Bool {
    let letters = text.prefix { isLetter($0) }
    let vowels = letters.count { "aeiouyAEIOUY".utf8.contains($0) }
    return (3...14).contains(letters.count) && (20...67).contains(vowels * 100 / letters.count)
  }

  private static func rest(_ text: UnsafeRawBufferPointer) -> Int {
    text.count - text.prefix { isLetter($0) }.count
  }
}
