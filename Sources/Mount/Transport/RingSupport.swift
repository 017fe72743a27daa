import CFuse
import CLinux
import Glibc
import SystemPackage

/// What can be known about FUSE over io_uring from outside.
enum RingSupport {
  private static let parameter = "/sys/module/fuse/parameters/enable_uring"

  /// Why the kernel's INIT request did not offer rings, claiming no more than can be seen from here.
  static func reasonNotOffered(kernelMinor: UInt32) -> String {
    if kernelMinor < 42 {
      return "the kernel speaks FUSE 7.\(kernelMinor), io_uring came with 7.42 (Linux 6.14)"
    }
    if let setting = TextFile.line(parameter) {
      return setting == "Y"
        ? "the kernel did not offer it when this mount was made"
        : "it is switched off in the kernel (as root: echo Y > \(parameter))"
    }
    return access("/sys/module/fuse", F_OK) == 0
      ? "the kernel was built without it"
      : "the kernel did not offer it, and /sys is not there to see why"
  }

  /// How many queues the kernel expects: one per possible processor, numbered from 0 without gaps.
  ///
  /// Nil when that cannot be known; a queue too few would hang the mount.
  static func possibleProcessors() -> Int? {
    guard let line = TextFile.line("/sys/devices/system/cpu/possible") else { return nil }
    return processors(line)
  }

  /// Reads a list such as `0-3`; nil for one with gaps.
  static func processors(_ list: String) -> Int? {
    let bounds = list.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
    switch bounds.count {
    case 1: return bounds[0] == 0 ? 1 : nil
    case 2:
      guard bounds[0] == 0, let last = bounds[1], last > 0, last < 4096 else { return nil }
      return last + 1
    default: return nil
    }
  }

  /// Makes the kernel give up on rings for this connection, with a registration it must refuse.
  ///
  /// After INIT it lets no request through before every queue is registered or one registration failed
  /// (`fuse_block_alloc`), and a failure on our side is none it could know of.
  ///
  /// - Returns: false when not even this could be submitted.
  static func renounce(device: Int32) -> Bool {
    guard let ring = try? Ring(entries: 1, device: device) else { return false }
    let vectors = [iovec](repeating: iovec(), count: 2)
    return vectors.withUnsafeBufferPointer { vectors in
      guard let base = vectors.baseAddress else { return false }
      let queued = ring.register(entry: 0, queue: UInt16.max, vectors: base)
      return queued && ring.submit() == 1
    }
  }
}

/// One io_uring with the FUSE device as its only file; made, used and closed by one thread.
final class Ring {
  private let ring: OpaquePointer

  /// Makes a ring for `entries` commands in flight.
  ///
  /// - Throws: what the kernel answered to one of the calls that takes.
  init(entries: Int, device: Int32) throws(Errno) {
    var made: OpaquePointer?
    let result = scrim_ring_open(UInt32(entries), device, &made)
    guard result == 0, let made else { throw Errno(rawValue: -result) }
    ring = made
  }

  deinit { scrim_ring_close(ring) }

  /// Has a signal end the waits of the calling thread and reach it nowhere else, so that none comes too early.
  func listen(to signal: Int32) throws(Errno) {
    let result = scrim_ring_listen(ring, signal)
    guard result == 0 else { throw Errno(rawValue: -result) }
  }

  /// Queues a registration. `vectors` (header block, payload) must live until it is submitted.
  func register(entry: Int, queue: UInt16, vectors: UnsafePointer<iovec>) -> Bool {
    scrim_ring_register(ring, UInt64(entry), queue, vectors) == 0
  }

  /// Queues COMMIT_AND_FETCH: the reply in the entry goes out and the next request comes in.
  func commit(entry: Int, queue: UInt16, commit: UInt64) -> Bool {
    scrim_ring_commit(ring, UInt64(entry), queue, commit) == 0
  }

  /// Hands over what is queued: how many, or a negative errno.
  func submit() -> Int32 { scrim_ring_submit(ring, 0) }

  /// Hands over what is queued and sleeps until something completed; -EINTR after a signal.
  func submitAndWait() -> Int32 { scrim_ring_submit(ring, 1) }

  /// Takes one completion: its entry and result.
  func next() -> (entry: Int, result: Int32)? {
    var entry: UInt64 = 0
    var result: Int32 = 0
    guard scrim_ring_next(ring, &entry, &result) == 1 else { return nil }
    return (Int(truncatingIfNeeded: entry), result)
  }
}
