public import Foundation

/// Bytes that a vector file shows as hexadecimal digits.
public struct Hex: Decodable, Sendable {
  /// The bytes.
  public let bytes: [UInt8]

  /// Decodes a string.
  public init(from decoder: any Decoder) throws {
    bytes = hex(try decoder.singleValueContainer().decode(String.self))
  }

  /// The bytes with zeros after them.
  public func padded(to count: Int) -> [UInt8] {
    bytes + [UInt8](repeating: 0, count: max(0, count - bytes.count))
  }
}

/// A file of pages of which a vector shows those that are not zero.
public struct SparseFile: Decodable, Sendable {
  /// The file's length in bytes.
  public let length: Int
  /// Pages by index, without the zero bytes at their end.
  public let pages: [String: Hex]

  /// The whole file.
  public var bytes: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: length)
    for (index, page) in pages {
      guard let start = Int(index).map({ $0 * 4096 }) else { continue }
      for (offset, byte) in page.bytes.enumerated() where start + offset < length {
        bytes[start + offset] = byte
      }
    }
    return bytes
  }
}

/// The known answers in `vectors/`, which an independent implementation has written.
public enum Vectors {
  /// The folder.
  public static let folder = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("vectors")

  private struct File<Case: Decodable>: Decodable {
    let cases: [Case]
  }

  /// All cases of a file; a vector's `snake_case` keys are `snakeCase` here.
  public static func cases<Case: Decodable>(
    _ path: String, as type: Case.Type = Case.self
  ) throws -> [Case] {
    try decode(path, as: File<Case>.self).cases
  }

  /// A whole JSON file.
  public static func decode<Value: Decodable>(
    _ path: String, as type: Value.Type = Value.self
  ) throws -> Value {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(type, from: Data(contentsOf: folder.appendingPathComponent(path)))
  }
}
