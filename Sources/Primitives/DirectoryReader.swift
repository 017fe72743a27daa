import CLinux
import Glibc
import SystemPackage

/// Reads a directory's entries with getdents64(2), one buffer at a time.
public struct DirectoryReader: ~Copyable {
  /// One entry; the name is valid until the reader's next call.
  public struct Entry {
    /// The name's bytes, without a terminating zero.
    public let name: UnsafeRawBufferPointer
    /// The inode number.
    public let inode: UInt64
    /// The type, `.unknown` where the filesystem does not say.
    public let kind: FileKind
    /// The position after this entry, as lseek(2) on the directory takes it.
    public let nextOffset: Int64

    /// Whether this is `.` or `..`.
    public var isDot: Bool {
      let dot = UInt8(ascii: ".")
      return name.count <= 2 && name[0] == dot && name[name.count - 1] == dot
    }
  }

  private let descriptor: Int32
  private let buffer: UnsafeMutableRawBufferPointer
  private var filled = 0
  private var offset = 0

  /// Starts where the descriptor is positioned.
  ///
  /// - Parameters:
  ///   - descriptor: A directory open for reading; it must outlive the reader.
  ///   - bufferSize: Bytes to fetch at once.
  public init(_ descriptor: Int32, bufferSize: Int = 32768) {
    self.descriptor = descriptor
    buffer = .allocate(byteCount: max(bufferSize, 1024), alignment: 8)
  }

  deinit { buffer.deallocate() }

  /// The next entry, `.` and `..` included; nil at the end.
  ///
  /// - Throws: What getdents64(2) gave; `.ioError` for an entry that is not well-formed.
  public mutating func next() throws(Errno) -> Entry? {
    if offset == filled {
      let (descriptor, buffer) = (descriptor, buffer)
      filled = try Sys.retry { scrim_getdents64(descriptor, buffer.baseAddress, buffer.count) }
      offset = 0
      if filled == 0 { return nil }
    }
    // struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, name to the first zero.
    let nameOffset = 19
    let record = UnsafeRawBufferPointer(rebasing: buffer[offset..<filled])
    guard record.count > nameOffset else { throw .ioError }
    let length = Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
    guard length > nameOffset, length <= record.count else { throw .ioError }
    let field = UnsafeRawBufferPointer(rebasing: record[nameOffset..<length])
    // An entry without a name is none of the kernel's.
    let end = field.baseAddress.map { strnlen($0.assumingMemoryBound(to: CChar.self), field.count) }
    guard let end, end > 0, end < field.count else { throw .ioError }
    offset += length
    return Entry(
      name: UnsafeRawBufferPointer(rebasing: field[..<end]),
      inode: record.loadUnaligned(as: UInt64.self),
      kind: FileKind(rawValue: record[18]) ?? .unknown,
      nextOffset: record.loadUnaligned(fromByteOffset: 8, as: Int64.self))
  }

  /// Goes to a position: zero, or what an entry gave as `nextOffset`.
  public mutating func seek(to position: Int64) throws(Errno) {
    try Sys.lseek(descriptor, position, .set)
    filled = 0
    offset = 0
  }
}

extension Sys {
  /// Every entry of a directory but `.` and `..`, from its beginning.
  ///
  /// - Parameters:
  ///   - descriptor: A directory open for reading; its position changes.
  ///   - isWanted: Which names are of interest.
  /// - Returns: Names without a terminating zero, in the order the filesystem has them.
  /// - Throws: The call's error.
  public static func entries(
    of descriptor: Int32, where isWanted: (UnsafeRawBufferPointer) -> Bool = { _ in true }
  ) throws(Errno) -> [(name: [UInt8], inode: UInt64, kind: FileKind)] {
    var entries: [(name: [UInt8], inode: UInt64, kind: FileKind)] = []
    try forEachEntry(of: descriptor) {
      if isWanted($0.name) { entries.append(([UInt8]($0.name), $0.inode, $0.kind)) }
      return true
    }
    return entries
  }

  /// Goes through the entries of a directory but `.` and `..`, from its beginning, in the order the filesystem has
  /// them; however many there are, only a few are in memory.
  ///
  /// - Parameters:
  ///   - descriptor: A directory open for reading; its position changes.
  ///   - body: Takes one entry, whose name is valid during the call; false ends it. It may remove entries.
  /// - Throws: The call's error.
  public static func forEachEntry(
    of descriptor: Int32, _ body: (DirectoryReader.Entry) -> Bool
  ) throws(Errno) {
    var reader = DirectoryReader(descriptor)
    try reader.seek(to: 0)
    while let entry = try reader.next() {
      if !entry.isDot, !body(entry) { return }
    }
  }
}
