import CCrypto
import CLinux
import Glibc
import Synchronization

/// Key material: kept out of swap (where the memory lock limit allows) and core dumps, and
/// overwritten before its memory is reused. Immutable once made; compares in constant time.
public final class SecretBytes: Sendable, Equatable {
  /// Length in bytes.
  public let count: Int

  // Written before the initialiser returns, wiped in deinit, only read in between.
  private nonisolated(unsafe) let start: UnsafeMutableRawPointer

  var storage: UnsafeMutableRawBufferPointer { .init(start: start, count: count) }

  /// Makes a secret in place.
  ///
  /// - Parameters:
  ///   - count: Length in bytes.
  ///   - initialize: Fills the zeroed memory it is given.
  /// - Throws: Whatever `initialize` throws.
  public init<E>(
    count: Int, initializingWith initialize: (UnsafeMutableRawBufferPointer) throws(E) -> Void
  ) throws(E) {
    let start = SecretMemory.allocate(count)
    self.count = count
    self.start = start
    // A throwing class initialiser that has set every property runs deinit, which gives it back.
    try initialize(UnsafeMutableRawBufferPointer(start: start, count: count))
  }

  /// Copies bytes; wiping the original is up to the caller.
  public convenience init(copying bytes: UnsafeRawBufferPointer) {
    self.init(count: bytes.count) { $0.copyMemory(from: bytes) }
  }

  /// Copies bytes; wiping the original is up to the caller.
  public convenience init(copying bytes: [UInt8]) {
    self.init(count: bytes.count) { $0.copyBytes(from: bytes) }
  }

  /// A new secret from the system's random numbers.
  public static func random(count: Int) -> SecretBytes {
    SecretBytes(count: count) { Random.fill($0) }
  }

  deinit { SecretMemory.release(start, count) }

  /// Lends the bytes for the length of a call.
  public func withUnsafeBytes<R: ~Copyable, E>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try body(UnsafeRawBufferPointer(start: start, count: count))
  }

  /// A new secret with some of these bytes.
  ///
  /// - Parameter range: Offsets in bytes, within `0..<count`.
  /// - Returns: The new secret.
  public func slice(_ range: Range<Int>) -> SecretBytes {
    withUnsafeBytes { SecretBytes(copying: UnsafeRawBufferPointer(rebasing: $0[range])) }
  }

  /// Whether two secrets are the same, in time that depends on their lengths only.
  public static func == (left: SecretBytes, right: SecretBytes) -> Bool {
    left.withUnsafeBytes { first in
      right.withUnsafeBytes { second in ConstantTime.equal(first, second) }
    }
  }
}

/// Locked memory in 64-byte slots, so that a key does not cost a page and four system calls.
/// Its lock is a leaf like malloc's: nothing is called while it is held but the kernel.
private enum SecretMemory {
  private static let slotSize = 64
  private static let regionSize = 65536
  private static let freeSlots = Mutex<[UInt]>([])

  /// Zeroed memory for `count` bytes.
  static func allocate(_ count: Int) -> UnsafeMutableRawPointer {
    if count > slotSize { return map(roundedToPages(count)) }
    let address = freeSlots.withLock { slots -> UInt in
      if let slot = slots.popLast() { return slot }
      let region = UInt(bitPattern: map(regionSize))
      slots.append(
        contentsOf: stride(
          from: region + UInt(slotSize), to: region + UInt(regionSize), by: slotSize))
      return region
    }
    guard let start = UnsafeMutableRawPointer(bitPattern: address) else {
      preconditionFailure("slots are parts of mapped regions, so never at zero")
    }
    return start
  }

  /// Wipes and takes back what `allocate` gave for the same count.
  static func release(_ start: UnsafeMutableRawPointer, _ count: Int) {
    OPENSSL_cleanse(start, count)
    if count > slotSize {
      munmap(start, roundedToPages(count))
    } else {
      freeSlots.withLock { $0.append(UInt(bitPattern: start)) }
    }
  }

  private static func roundedToPages(_ count: Int) -> Int {
    let page = Int(getpagesize())
    return (count + page - 1) / page * page
  }

  private static func map(_ size: Int) -> UnsafeMutableRawPointer {
    guard let start = scrim_map_anonymous(size) else {
      preconditionFailure("out of memory")
    }
    // Beyond RLIMIT_MEMLOCK the secret still works, it may only reach swap.
    _ = mlock(start, size)
    _ = scrim_exclude_from_dumps(start, size)
    return start
  }
}
