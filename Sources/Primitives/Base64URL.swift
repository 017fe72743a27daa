/// Base64 with the URL and filename safe alphabet, without padding: RFC 4648, section 5.
public enum Base64URL {
  private static let alphabet: StaticString =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

  /// Length of the text for `count` bytes.
  public static func encodedCount(_ count: Int) -> Int { (count * 4 + 2) / 3 }

  /// Turns bytes into text.
  public static func encode(_ bytes: [UInt8]) -> [UInt8] {
    let count = encodedCount(bytes.count)
    let symbols = alphabet.utf8Start
    return [UInt8](unsafeUninitializedCapacity: count) { text, initialized in
      var bits: UInt32 = 0
      var pending = 0
      var position = 0
      for byte in bytes {
        bits = bits << 8 | UInt32(byte)
        pending += 8
        while pending >= 6 {
          pending -= 6
          text[position] = symbols[Int(bits >> UInt32(pending) & 63)]
          position += 1
        }
      }
      if pending > 0 {
        text[position] = symbols[Int(bits << UInt32(6 - pending) & 63)]
      }
      initialized = count
    }
  }

  /// Turns text back; nil unless it is exactly what `encode` gives for some bytes.
  public static func decode(_ text: [UInt8]) -> [UInt8]? {
    guard text.count % 4 != 1 else { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count * 3 / 4)
    var bits: UInt32 = 0
    var pending = 0
    for symbol in text {
      guard let value = value(of: symbol) else { return nil }
      bits = bits << 6 | value
      pending += 6
      if pending >= 8 {
        pending -= 8
        bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(pending)))
      }
    }
    // Unused bits must be zero, or two texts would stand for the same bytes.
    guard bits & ((1 << UInt32(pending)) - 1) == 0 else { return nil }
    return bytes
  }

  private static func value(of symbol: UInt8) -> UInt32? {
    switch symbol {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(symbol - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(symbol - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(symbol - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "-"): 62
    case UInt8(ascii: "_"): 63
    default: nil
    }
  }
}
