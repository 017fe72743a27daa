import CLinux
import Glibc
import SystemPackage

extension Sys {
  /// pread(2) until the buffer is full or the file ends.
  ///
  /// - Parameters:
  ///   - descriptor: The file.
  ///   - buffer: Where the bytes go.
  ///   - offset: Offset in the file, in bytes.
  /// - Returns: How many bytes were read; fewer than the buffer holds only at the end of the file.
  /// - Throws: The call's error.
  @discardableResult
  public static func pread(
    _ descriptor: Int32, _ buffer: UnsafeMutableRawBufferPointer, at offset: Int64
  ) throws(Errno) -> Int {
    guard let start = buffer.baseAddress else { return 0 }
    var done = 0
    while done < buffer.count {
      let count = try retry {
        Glibc.pread(descriptor, start + done, buffer.count - done, Int(offset) + done)
      }
      if count == 0 { break }
      done += count
    }
    return done
  }

  /// pwrite(2) until everything is written. An error may come after part of it was.
  ///
  /// - Parameters:
  ///   - descriptor: The file.
  ///   - buffer: The bytes.
  ///   - offset: Offset in the file, in bytes.
  /// - Throws: The call's error; `.ioError` if it makes no progress.
  public static func pwrite(
    _ descriptor: Int32, _ buffer: UnsafeRawBufferPointer, at offset: Int64
  ) throws(Errno) {
    guard let start = buffer.baseAddress else { return }
    var done = 0
    while done < buffer.count {
      let count = try retry {
        Glibc.pwrite(descriptor, start + done, buffer.count - done, Int(offset) + done)
      }
      // No progress without an error would loop for ever.
      if count == 0 { throw .ioError }
      done += count
    }
  }

  /// One pwrite(2), which may write less than it was given.
  ///
  /// - Returns: How many bytes were written.
  public static func pwritePart(
    _ descriptor: Int32, _ buffer: UnsafeRawBufferPointer, at offset: Int64
  ) throws(Errno) -> Int {
    try retry { Glibc.pwrite(descriptor, buffer.baseAddress, buffer.count, Int(offset)) }
  }

  /// preadv(2) until every buffer is full or the file ends.
  ///
  /// - Parameters:
  ///   - descriptor: The file.
  ///   - buffers: Where the bytes go, in order; their contents are used up by the call.
  ///   - offset: Offset in the file, in bytes.
  /// - Returns: How many bytes were read; fewer than the buffers hold only at the end of the file.
  /// - Throws: The call's error.
  @discardableResult
  public static func preadv(
    _ descriptor: Int32, _ buffers: UnsafeMutableBufferPointer<iovec>, at offset: Int64
  ) throws(Errno) -> Int {
    try transfer(buffers) { vectors, count, done in
      Glibc.preadv(descriptor, vectors, count, Int(offset) + done)
    }.done
  }

  /// pwritev(2) until everything is written. An error may come after part of it was.
  ///
  /// - Parameters:
  ///   - descriptor: The file.
  ///   - buffers: The bytes, in order; the vectors are used up by the call.
  ///   - offset: Offset in the file, in bytes.
  /// - Throws: The call's error; `.ioError` if it makes no progress.
  public static func pwritev(
    _ descriptor: Int32, _ buffers: UnsafeMutableBufferPointer<iovec>, at offset: Int64
  ) throws(Errno) {
    let result = try transfer(buffers) { vectors, count, done in
      Glibc.pwritev(descriptor, vectors, count, Int(offset) + done)
    }
    // No progress without an error would loop for ever.
    if !result.complete { throw .ioError }
  }

  /// Repeats a vector call with what is left, at most IOV_MAX vectors at a time.
  private static func transfer(
    _ buffers: UnsafeMutableBufferPointer<iovec>,
    _ call: (UnsafePointer<iovec>, Int32, Int) -> Int
  ) throws(Errno) -> (done: Int, complete: Bool) {
    var first = 0
    var done = 0
    while true {
      while first < buffers.count, buffers[first].iov_len == 0 { first += 1 }
      guard first < buffers.count, let start = buffers.baseAddress else { return (done, true) }
      var count = try retry { call(start + first, Int32(min(buffers.count - first, 1024)), done) }
      if count == 0 { return (done, false) }
      done += count
      while count > 0 {
        let part = min(count, Int(buffers[first].iov_len))
        buffers[first].iov_base = buffers[first].iov_base.map { $0 + part }
        buffers[first].iov_len -= part
        count -= part
        if buffers[first].iov_len == 0 { first += 1 }
      }
    }
  }

  /// fsync(2).
  public static func fsync(_ descriptor: Int32) throws(Errno) {
    _ = try retry { Glibc.fsync(descriptor) }
  }

  /// fdatasync(2).
  public static func fdatasync(_ descriptor: Int32) throws(Errno) {
    _ = try retry { Glibc.fdatasync(descriptor) }
  }

  /// syncfs(2).
  public static func syncfs(_ descriptor: Int32) throws(Errno) {
    _ = try retry { scrim_syncfs(descriptor) }
  }

  /// ftruncate(2).
  ///
  /// - Parameters:
  ///   - descriptor: A file open for writing.
  ///   - size: The new size in bytes.
  /// - Throws: The call's error.
  public static func ftruncate(_ descriptor: Int32, size: Int64) throws(Errno) {
    _ = try retry { Glibc.ftruncate(descriptor, Int(size)) }
  }

  /// Modes of fallocate(2).
  public struct AllocateMode: OptionSet, Sendable {
    /// FALLOC_FL_ bits.
    public let rawValue: Int32

    /// Takes FALLOC_FL_ bits as they are.
    public init(rawValue: Int32) {
      self.rawValue = rawValue
    }

    /// Leaves the size as it is.
    public static let keepSize = AllocateMode(rawValue: scrim_FALLOC_FL_KEEP_SIZE)
    /// Gives space back; needs `keepSize`.
    public static let punchHole = AllocateMode(rawValue: scrim_FALLOC_FL_PUNCH_HOLE)
    /// Takes the range out of the file.
    public static let collapseRange = AllocateMode(rawValue: scrim_FALLOC_FL_COLLAPSE_RANGE)
    /// Zeroes the range.
    public static let zeroRange = AllocateMode(rawValue: scrim_FALLOC_FL_ZERO_RANGE)
    /// Puts a hole in between.
    public static let insertRange = AllocateMode(rawValue: scrim_FALLOC_FL_INSERT_RANGE)
    /// Ends the sharing of extents.
    public static let unshareRange = AllocateMode(rawValue: scrim_FALLOC_FL_UNSHARE_RANGE)
  }

  /// fallocate(2).
  ///
  /// - Parameters:
  ///   - descriptor: A file open for writing.
  ///   - mode: What to do; nothing set allocates.
  ///   - offset: Start of the range in bytes.
  ///   - length: Length of the range in bytes.
  /// - Throws: The call's error.
  public static func fallocate(
    _ descriptor: Int32, mode: AllocateMode, offset: Int64, length: Int64
  ) throws(Errno) {
    _ = try retry { scrim_fallocate(descriptor, mode.rawValue, Int(offset), Int(length)) }
  }

  /// What lseek(2) looks for.
  public enum Whence: Sendable {
    /// An offset from the start.
    case set
    /// An offset from the current position.
    case current
    /// An offset from the end.
    case end
    /// The next data; ENXIO where there is none.
    case data
    /// The next hole; the end of the file counts as one.
    case hole
  }

  /// lseek(2).
  ///
  /// - Returns: The new position in bytes.
  @discardableResult
  public static func lseek(
    _ descriptor: Int32, _ offset: Int64, _ whence: Whence
  ) throws(Errno) -> Int64 {
    let whence =
      switch whence {
      case .set: SEEK_SET
      case .current: SEEK_CUR
      case .end: SEEK_END
      case .data: scrim_SEEK_DATA
      case .hole: scrim_SEEK_HOLE
      }
    return Int64(try retry { Glibc.lseek(descriptor, Int(offset), whence) })
  }

  /// copy_file_range(2), one call; neither file's position is used.
  ///
  /// - Returns: How many bytes were copied, zero at the end of the source.
  public static func copyFileRange(
    from source: Int32, at sourceOffset: Int64, to destination: Int32, at offset: Int64,
    count: Int
  ) throws(Errno) -> Int {
    try retry {
      var input = off_t(sourceOffset)
      var output = off_t(offset)
      return scrim_copy_file_range(source, &input, destination, &output, count)
    }
  }

  /// FICLONE: makes the destination share the whole source's extents.
  public static func ficlone(from source: Int32, to destination: Int32) throws(Errno) {
    _ = try retry { scrim_ficlone(destination, source) }
  }

  /// posix_fadvise(2).
  public static func fadvise(
    _ descriptor: Int32, offset: Int64, length: Int64, advice: Int32
  ) throws(Errno) {
    _ = try retry { scrim_fadvise(descriptor, Int(offset), Int(length), advice) }
  }

  /// fstatfs(2).
  public static func statfs(_ descriptor: Int32) throws(Errno) -> FilesystemStatus {
    var raw = scrim_filesystem()
    _ = try retry { scrim_fstatfs(descriptor, &raw) }
    return FilesystemStatus(raw)
  }
}
