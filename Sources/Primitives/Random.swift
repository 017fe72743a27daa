import CCrypto
import CLinux
import Glibc

/// Random bytes from the kernel's generator, fetched a page at a time by each thread.
///
/// Bytes are erased from the buffer as they are handed out, and a forked child starts with an
/// empty buffer because the kernel wipes the page.
public enum Random {
  private static let pageSize = 4096
  /// Requests from this size on go to the kernel directly.
  private static let largeRequest = 1024

  /// Fills a buffer.
  public static func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    guard buffer.count < largeRequest, let page = threadPage() else {
      fillFromKernel(buffer)
      return
    }
    let target = buffer
    guard let output = target.baseAddress else { return }
    // SAFETY: the page is this thread's alone. Its first word counts the unused bytes, which are
    // at its end; a fork resets the word to zero.
    var unused = page.load(as: Int.self)
    if unused < buffer.count {
      unused = pageSize - MemoryLayout<Int>.size
      fillFromKernel(.init(start: page + MemoryLayout<Int>.size, count: unused))
    }
    let source = page + (pageSize - unused)
    output.copyMemory(from: source, byteCount: buffer.count)
    OPENSSL_cleanse(source, buffer.count)
    page.storeBytes(of: unused - buffer.count, as: Int.self)
  }

  /// New random bytes.
  public static func bytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      fill(.init(start: buffer.baseAddress, count: count))
      initialized = count
    }
  }

  /// A random 64-bit number.
  public static func uint64() -> UInt64 {
    var value: UInt64 = 0
    withUnsafeMutableBytes(of: &value) { fill($0) }
    return value
  }

  private static let pageKey: pthread_key_t? = {
    var key = pthread_key_t()
    let made = pthread_key_create(&key) { page in
      if let page { munmap(page, 4096) }
    }
    return made == 0 ? key : nil
  }()

  /// This thread's page; nil where it cannot be had or cannot be made safe against fork.
  private static func threadPage() -> UnsafeMutableRawPointer? {
    guard let key = pageKey else { return nil }
    if let page = pthread_getspecific(key) { return page }
    guard let page = scrim_map_anonymous(pageSize) else { return nil }
    guard scrim_wipe_on_fork(page, pageSize) == 0, pthread_setspecific(key, page) == 0 else {
      munmap(page, pageSize)
      return nil
    }
    _ = scrim_exclude_from_dumps(page, pageSize)
    _ = mlock(page, pageSize)
    return page
  }

  private static func fillFromKernel(_ buffer: UnsafeMutableRawBufferPointer) {
    guard let start = buffer.baseAddress else { return }
    var filled = 0
    while filled < buffer.count {
      let count = scrim_getrandom(start + filled, buffer.count - filled)
      if count >= 0 {
        filled += count
      } else {
        // getrandom(2) fails only on bad arguments or a kernel older than 3.17.
        precondition(errno == EINTR, "the kernel gives no random bytes")
      }
    }
  }
}
