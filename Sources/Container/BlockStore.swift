import Primitives
import SystemPackage

/// The backing file of one container: bytes by offset. Calls may come from several threads.
public protocol BlockStore: AnyObject, Sendable {
  /// Reads until the buffer is full or the file ends.
  ///
  /// - Parameters:
  ///   - offset: Offset in the file, in bytes.
  ///   - buffer: Where the bytes go.
  /// - Returns: How many bytes were read; fewer than the buffer holds only at the end of the file.
  /// - Throws: What read(2) fails with.
  func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> Int

  /// Reads consecutive bytes into up to three buffers, as `read` does into one.
  func read(
    at offset: UInt64, head: UnsafeMutableRawBufferPointer, body: UnsafeMutableRawBufferPointer,
    tail: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int

  /// Writes all bytes; after an error any part of them may have been written.
  func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer) throws(Errno)

  /// Sets the file's length in bytes.
  func truncate(to length: UInt64) throws(Errno)

  /// Gives the space of pages back that nothing refers to; they may read as anything afterwards.
  func discard(at offset: UInt64, count: UInt64) throws(Errno)

  /// Returns when everything written is on the medium: fdatasync(2), or fsync(2) where the change time and
  /// the attributes are to be there, too.
  func sync(withTimes: Bool) throws(Errno)

  /// The file's length in bytes.
  func length() throws(Errno) -> UInt64

  /// Sets the file's modification time.
  func setModificationTime(_ time: TimeSpec) throws(Errno)
}

extension BlockStore {
  /// Keeps the space, as stores may.
  public func discard(at offset: UInt64, count: UInt64) throws(Errno) {}
}
