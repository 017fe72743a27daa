/// Base 32 without padding, RFC 4648, section 6: for text that people copy by hand.
public enum Base32 {
  private static let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

  /// Turns bytes into upper-case text without separators.
  public static func encode(_ bytes: [UInt8]) -> [UInt8] {
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count * 8 + 4) / 5)
    var bits: UInt32 = 0
    var pending = 0
    for byte in bytes {
      bits = bits << 8 | UInt32(byte)
      pending += 8
      while pending >= 5 {
        pending -= 5
        text.append(alphabet.utf8Start[Int(bits >> UInt32(pending) & 31)])
      }
    }
    if pending > 0 {
      text.append(alphabet.utf8Start[Int(bits << UInt32(5 - pending) & 31)])
    }
    return text
  }

  /// Turns text back. Case, hyphens and white space do not matter; 0 is read as O, 1 as I, 8 as B.
  ///
  /// - Returns: nil for any other character, a length no bytes have, or unused bits that are set.
  public static func decode(_ text: [UInt8]) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count * 5 / 8)
    var bits: UInt32 = 0
    var pending = 0
    for symbol in text where !isSeparator(symbol) {
      guard let value = value(of: symbol) else { return nil }
      bits = bits << 5 | value
      pending += 5
      if pending >= 8 {
        pending -= 8
        bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(pending)))
      }
    }
    guard pending < 5, bits & ((1 << UInt32(pending)) - 1) == 0 else { return nil }
    return bytes
  }

  private static func isSeparator(_ symbol: UInt8) -> Bool {
    symbol == UInt8(ascii: "-") || symbol == UInt8(ascii: " ") || (9...13).contains(symbol)
  }

  private static func value(of symbol: UInt8) -> UInt32? {
    switch symbol {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(symbol - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(symbol - UInt8(ascii: "a"))
    case UInt8(ascii: "2")...UInt8(ascii: "7"): UInt32(symbol - UInt8(ascii: "2")) + 26
    case UInt8(ascii: "0"): 14
    case UInt8(ascii: "1"): 8
    case UInt8(ascii: "8"): 1
    default: nil
    }
  }
}
