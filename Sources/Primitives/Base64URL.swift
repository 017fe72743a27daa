/// Base64 with the URL and filename safe alphabet, without padding: RFC 4648, section 5.
public enum Base64URL {
  private static let alphabet: StaticString =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

  /// Length of the text for `count` bytes.
  public static func encodedCount(_ count: Int) -> Int { (count * 4 + 2) / 3 }

  /// What each symbol stands for, by its code; ``noSymbol`` for the others.
  private static let values: [UInt8] = {
    var values = [UInt8](repeating: noSymbol, count: 256)
    for value in 0..<64 { values[Int(alphabet.utf8Start[value])] = UInt8(value) }
    return values
  }()
  private static let noSymbol: UInt8 = 0xFF

  // Arrays are made of finished bytes: one that is filled in place looks its type up first, which costs more.

  /// Turns bytes into text.
  public static func encode(_ bytes: [UInt8]) -> [UInt8] {
    let symbols = alphabet.utf8Start
    return withUnsafeTemporaryAllocation(
      byteCount: encodedCount(bytes.count), alignment: 1
    ) { text in
      bytes.withUnsafeBytes { bytes in
        var position = 0
        for start in stride(from: 0, to: bytes.count, by: 3) {
          func byte(_ index: Int) -> UInt32 {
            start + index < bytes.count ? UInt32(bytes[start + index]) : 0
          }
          let bits = byte(0) << 16 | byte(1) << 8 | byte(2)
          for part in 0..<min(4, text.count - position) {
            text[position] = symbols[Int(bits >> UInt32(18 - 6 * part) & 63)]
            position += 1
          }
        }
      }
      return [UInt8](text)
    }
  }

  /// Turns text back; nil unless it is exactly what `encode` gives for some bytes.
  public static func decode(_ text: [UInt8]) -> [UInt8]? {
    guard text.count % 4 != 1 else { return nil }
    return withUnsafeTemporaryAllocation(
      byteCount: text.count * 3 / 4, alignment: 1
    ) { bytes in
      let isText = values.withUnsafeBufferPointer { values in
        text.withUnsafeBytes { decode($0, with: values, into: bytes) }
      }
      return isText ? [UInt8](bytes) : nil
    }
  }

  private static func decode(
    _ text: UnsafeRawBufferPointer, with values: UnsafeBufferPointer<UInt8>,
    into bytes: UnsafeMutableRawBufferPointer
  ) -> Bool {
    // Every value in one; what is no symbol shows in the upper bits.
    var met: UInt32 = 0
    var position = 0
    for start in stride(from: 0, to: text.count, by: 4) {
      func value(_ index: Int) -> UInt32 {
        start + index < text.count ? UInt32(values[Int(text[start + index])]) : 0
      }
      let (first, second, third, fourth) = (value(0), value(1), value(2), value(3))
      met |= first | second | third | fourth
      let bits = (first & 63) << 18 | (second & 63) << 12 | (third & 63) << 6 | fourth & 63
      let count = min(3, bytes.count - position)
      for part in 0..<count {
        bytes[position] = UInt8(truncatingIfNeeded: bits >> UInt32(16 - 8 * part))
        position += 1
      }
      // Unused bits must be zero, or two texts would stand for the same bytes.
      if count < 3, bits << UInt32(8 + 8 * count) != 0 { return false }
    }
    return met < 64
  }
}
