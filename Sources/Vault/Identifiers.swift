import Container
import Primitives

/// The random 128-bit identity of a directory (format §5), or all zero for "above the root".
public struct DirectoryID: Hashable, Sendable {
  /// The 16 bytes as stored.
  public let bytes: [UInt8]

  /// What the root directory's binding is made with.
  static let aboveRoot = DirectoryID(bytes: [UInt8](repeating: 0, count: 16))

  /// Takes 16 bytes.
  init(bytes: [UInt8]) {
    precondition(bytes.count == 16, "a directory ID has 16 bytes")
    self.bytes = bytes
  }

  static func random() -> DirectoryID { DirectoryID(bytes: Random.bytes(16)) }
}

extension DirectoryID: CustomStringConvertible {
  /// Hexadecimal, for log lines.
  public var description: String {
    String(decoding: bytes.flatMap { [hexDigit($0 >> 4), hexDigit($0 & 15)] }, as: UTF8.self)
  }

  private func hexDigit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
  }
}

/// What tells one backing inode from another while it exists.
public struct InodeIdentity: Hashable, Sendable {
  /// Device number of the backing filesystem.
  public let device: UInt64
  /// Inode number there.
  public let inode: UInt64

  /// Joins the two numbers.
  public init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }

  init(_ status: FileStatus) {
    self.init(device: status.device, inode: status.inode)
  }
}
