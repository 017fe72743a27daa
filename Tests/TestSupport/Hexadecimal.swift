/// The bytes a string of hexadecimal digits stands for; white space does not matter. Test vectors
/// are constants, so anything else stops the test.
public func hex(_ text: String) -> [UInt8] {
  let digits = text.filter { !$0.isWhitespace }.map { digit in
    guard let value = digit.hexDigitValue else { preconditionFailure("not hexadecimal: \(digit)") }
    return UInt8(value)
  }
  precondition(digits.count.isMultiple(of: 2), "half a byte")
  return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// The lower-case hexadecimal digits of bytes.
public func hex(_ bytes: [UInt8]) -> String {
  bytes.map { byte in
    let digits = String(byte, radix: 16)
    return digits.count == 1 ? "0\(digits)" : digits
  }.joined()
}
