import Glibc
import Primitives
import SystemPackage

/// A container's backing file behind a descriptor.
public final class FileBlockStore: BlockStore {
  /// The descriptor; shared, so it stays open while this store lives.
  public let descriptor: SharedFD

  /// Uses an open file.
  ///
  /// - Parameter descriptor: Open for reading, and for writing if the container is to be written.
  public init(_ descriptor: SharedFD) {
    self.descriptor = descriptor
  }

  /// Reads with pread(2).
  public func read(
    at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try Sys.pread(descriptor.rawValue, buffer, at: Int64(clamping: offset))
  }

  /// Reads with preadv(2).
  public func read(
    at offset: UInt64, head: UnsafeMutableRawBufferPointer, body: UnsafeMutableRawBufferPointer,
    tail: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    // SAFETY: the tuple is the array that preadv takes, and lives for the call.
    var vectors = (
      iovec(iov_base: head.baseAddress, iov_len: head.count),
      iovec(iov_base: body.baseAddress, iov_len: body.count),
      iovec(iov_base: tail.baseAddress, iov_len: tail.count)
    )
    let number = descriptor.rawValue
    return try withUnsafeMutableBytes(of: &vectors) { raw throws(Errno) in
      try Sys.preadv(number, raw.bindMemory(to: iovec.self), at: Int64(clamping: offset))
    }
  }

  /// Writes with pwrite(2).
  public func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer) throws(Errno) {
    try Sys.pwrite(descriptor.rawValue, buffer, at: Int64(clamping: offset))
  }

  /// Calls ftruncate(2).
  public func truncate(to length: UInt64) throws(Errno) {
    try Sys.ftruncate(descriptor.rawValue, size: Int64(clamping: length))
  }

  /// Punches a hole with fallocate(2).
  public func discard(at offset: UInt64, count: UInt64) throws(Errno) {
    try Sys.fallocate(
      descriptor.rawValue, mode: [.punchHole, .keepSize], offset: Int64(clamping: offset),
      length: Int64(clamping: count))
  }

  /// Calls fsync(2) or fdatasync(2).
  public func sync(withTimes: Bool) throws(Errno) {
    if withTimes {
      try Sys.fsync(descriptor.rawValue)
    } else {
      try Sys.fdatasync(descriptor.rawValue)
    }
  }

  /// Asks statx(2).
  public func length() throws(Errno) -> UInt64 {
    try Sys.fstatx(descriptor.rawValue, fields: .size).size
  }

  /// Calls futimens(3).
  public func setModificationTime(_ time: TimeSpec) throws(Errno) {
    try Sys.futimens(descriptor.rawValue, access: .omit, modification: .set(time))
  }
}
