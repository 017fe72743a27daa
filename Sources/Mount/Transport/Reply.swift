import CFuse
import Glibc

/// How an open file behaves in the kernel (`FOPEN_*`).
public struct OpenFlags: OptionSet, Sendable {
  /// The bits as the kernel reads them.
  public let rawValue: UInt32
  /// From bits as the kernel reads them.
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Reads and writes skip the page cache.
  public static let directIO = OpenFlags(rawValue: 1 << 0)
  /// The page cache of earlier opens stays valid.
  public static let keepCache = OpenFlags(rawValue: 1 << 1)
  /// The listing of this directory may be cached.
  public static let cacheDirectory = OpenFlags(rawValue: 1 << 3)
  /// No FLUSH at close.
  public static let noFlush = OpenFlags(rawValue: 1 << 5)
  /// Direct writes within the file need not exclude each other.
  public static let parallelDirectWrites = OpenFlags(rawValue: 1 << 6)

  /// What the kernel allows beside passthrough; anything else makes the open fail with EIO.
  static let besidePassthrough: OpenFlags = [.directIO, .noFlush, .parallelDirectWrites]
}

/// Memory for a READ reply that reaches the kernel without a further copy.
public struct ReplyBuffer {
  /// Where byte 0 of the reply belongs; page-aligned.
  public let base: UnsafeMutableRawPointer
  /// Largest reply in bytes (1 MiB).
  public var capacity: Int { Payload.capacity }
  /// Bytes that may be written before `base` and after its `capacity`, for blocks the request cuts.
  public static let margin = Payload.margin
}

/// Replies that libfuse 3.14 cannot make, and the fast one.
///
/// Each answers and ends its request exactly once, like `fuse_reply_*`; the result is 0, or -ENOENT when the opener was
/// interrupted and will never know (then no RELEASE follows an OPEN or CREATE).
public enum Reply {
  /// Memory of the calling worker thread for the reply to the request in hand.
  ///
  /// One per thread: valid until the handler replies, and never beyond its return. Over a ring it is the
  /// request's own payload, so plain bytes that a handler decrypts into it are not copied in user space again.
  ///
  /// - Returns: nil on a thread that does not serve requests, or when memory is exhausted.
  public static func buffer() -> ReplyBuffer? {
    guard let base = Worker.current?.replyBase() else { return nil }
    return ReplyBuffer(base: base)
  }

  /// Answers a READ (or anything else) with the first `count` bytes at `buffer.base`.
  @discardableResult
  public static func data(_ request: fuse_req_t, _ buffer: ReplyBuffer, count: Int) -> Int32 {
    // SAFETY: the caller wrote `count` bytes, at most `capacity`, into the leased memory.
    fuse_reply_buf(
      request, buffer.base.assumingMemoryBound(to: CChar.self), min(count, buffer.capacity))
  }

  /// Answers OPEN (or OPENDIR).
  ///
  /// - Parameters:
  ///   - request: the OPEN in hand.
  ///   - handle: comes back as `fh` with every request on this open file.
  ///   - flags: how the kernel is to treat the open file.
  ///   - backingID: from ``BackingRegistry/acquire(inode:descriptor:)``; the kernel then reads and writes the backing
  ///     file itself, and flags it does not allow beside that are left out.
  /// - Returns: 0 or -ENOENT.
  @discardableResult
  public static func open(
    _ request: fuse_req_t, handle: UInt64, flags: OpenFlags, backingID: Int32? = nil
  ) -> Int32 {
    withUnsafeTemporaryAllocation(byteCount: openSize, alignment: 8) { body in
      write(into: body, at: 0, handle: handle, flags: flags, backingID: backingID)
      return send(request, body)
    }
  }

  /// Answers CREATE: an entry and an open file.
  @discardableResult
  public static func create(
    _ request: fuse_req_t, entry: fuse_entry_param, handle: UInt64, flags: OpenFlags,
    backingID: Int32? = nil
  ) -> Int32 {
    withUnsafeTemporaryAllocation(byteCount: entrySize + openSize, alignment: 8) { body in
      write(into: body, entry: entry)
      write(into: body, at: entrySize, handle: handle, flags: flags, backingID: backingID)
      return send(request, body)
    }
  }

  /// `struct fuse_open_out`: fh, open_flags, backing_id.
  private static let openSize = 16
  /// `struct fuse_entry_out`: 40 bytes and `struct fuse_attr`.
  private static let entrySize = 128

  private static func send(_ request: fuse_req_t, _ body: UnsafeMutableRawBufferPointer) -> Int32 {
    // SAFETY: libfuse copies or writes out the bytes before it returns.
    fuse_reply_buf(request, body.baseAddress?.assumingMemoryBound(to: CChar.self), body.count)
  }

  private static func write(
    into body: UnsafeMutableRawBufferPointer, at offset: Int, handle: UInt64, flags: OpenFlags,
    backingID: Int32?
  ) {
    var bits = flags.rawValue
    if backingID != nil {
      bits = flags.intersection(.besidePassthrough).rawValue | Wire.OpenFlag.passthrough
    }
    body.storeBytes(of: handle, toByteOffset: offset, as: UInt64.self)
    body.storeBytes(of: bits, toByteOffset: offset + 8, as: UInt32.self)
    body.storeBytes(of: backingID ?? 0, toByteOffset: offset + 12, as: Int32.self)
  }

  private static func write(into body: UnsafeMutableRawBufferPointer, entry: fuse_entry_param) {
    let attributes = entry.attr
    let valid = split(entry.entry_timeout)
    let attributesValid = split(entry.attr_timeout)
    var offset = 0
    func put<Field: BitwiseCopyable>(_ field: Field) {
      body.storeBytes(of: field, toByteOffset: offset, as: Field.self)
      offset += MemoryLayout<Field>.size
    }
    put(UInt64(entry.ino))
    put(UInt64(entry.generation))
    put(valid.seconds)
    put(attributesValid.seconds)
    put(valid.nanoseconds)
    put(attributesValid.nanoseconds)
    put(UInt64(attributes.st_ino))
    put(Int64(attributes.st_size))
    put(Int64(attributes.st_blocks))
    put(Int64(attributes.st_atim.tv_sec))
    put(Int64(attributes.st_mtim.tv_sec))
    put(Int64(attributes.st_ctim.tv_sec))
    put(UInt32(truncatingIfNeeded: attributes.st_atim.tv_nsec))
    put(UInt32(truncatingIfNeeded: attributes.st_mtim.tv_nsec))
    put(UInt32(truncatingIfNeeded: attributes.st_ctim.tv_nsec))
    put(UInt32(attributes.st_mode))
    put(UInt32(truncatingIfNeeded: attributes.st_nlink))
    put(UInt32(attributes.st_uid))
    put(UInt32(attributes.st_gid))
    put(UInt32(truncatingIfNeeded: attributes.st_rdev))
    put(UInt32(truncatingIfNeeded: attributes.st_blksize))
    put(UInt32(0))
  }

  /// A timeout in seconds as the kernel's whole seconds and nanoseconds; huge ones are forever.
  private static func split(_ timeout: Double) -> (seconds: UInt64, nanoseconds: UInt32) {
    guard timeout > 0 else { return (0, 0) }
    guard timeout < 9e15 else { return (UInt64(Int64.max), 0) }
    let whole = timeout.rounded(.down)
    return (UInt64(whole), UInt32((timeout - whole) * 999_999_999))
  }
}
