import CFuse
import Glibc

/// STATX, which libfuse before 3.18 does not know: the kernel sends it instead of GETATTR where the time of birth is
/// asked for. Its body begins like GETATTR's, so that is what it becomes; the reply is made over on its way out.
enum Statx {
  /// `struct fuse_attr_out`: 16 bytes about its validity, then `struct fuse_attr`.
  private static let attributesSize = 104
  /// `struct fuse_statx_out`: 32 bytes about its validity, then `struct fuse_statx`.
  private static let size = 288
  private static let basicStatistics: UInt32 = 0x7ff
  private static let birthTime: UInt32 = 0x800

  /// Sends a reply to GETATTR as one to STATX, errors as they are.
  static func send(
    _ vectors: UnsafeBufferPointer<iovec>, birth: timespec?,
    _ send: (UnsafeBufferPointer<iovec>) -> Int
  ) -> Int {
    guard vectors.count == 2, vectors[1].iov_len == attributesSize,
      let header = vectors[0].iov_base, let attributes = vectors[1].iov_base
    else { return send(vectors) }
    let total = Wire.replyHeaderSize + size
    return withUnsafeTemporaryAllocation(byteCount: total, alignment: 8) { reply in
      _ = reply.initializeMemory(as: UInt8.self, repeating: 0)
      reply.copyMemory(from: UnsafeRawBufferPointer(start: header, count: Wire.replyHeaderSize))
      reply.storeBytes(of: UInt32(total), as: UInt32.self)
      let body = UnsafeMutableRawBufferPointer(rebasing: reply[Wire.replyHeaderSize...])
      translate(UnsafeRawBufferPointer(start: attributes, count: attributesSize), birth, into: body)
      return withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { patched in
        patched[0] = iovec(iov_base: reply.baseAddress, iov_len: Wire.replyHeaderSize)
        patched[1] = iovec(iov_base: body.baseAddress, iov_len: size)
        return send(UnsafeBufferPointer(patched))
      }
    }
  }

  private static func translate(
    _ attributes: UnsafeRawBufferPointer, _ birth: timespec?,
    into body: UnsafeMutableRawBufferPointer
  ) {
    func word(_ offset: Int) -> UInt32 {
      attributes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
    }
    func long(_ offset: Int) -> UInt64 {
      attributes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }
    func put(_ value: UInt32, at offset: Int) {
      body.storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
    }
    func put(_ value: UInt64, at offset: Int) {
      body.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
    }
    func put(_ seconds: UInt64, _ nanoseconds: UInt32, at offset: Int) {
      put(seconds, at: offset)
      put(nanoseconds, at: offset + 8)
    }
    put(long(0), word(8), at: 0)
    put(basicStatistics | (birth == nil ? 0 : birthTime), at: 32)
    put(word(96), at: 36)  // block size
    put(word(80), at: 48)  // links
    put(word(84), at: 52)  // owner
    put(word(88), at: 56)  // group
    put(word(76), at: 60)  // mode, of which two bytes count
    put(long(16), at: 64)  // inode
    put(long(24), at: 72)  // size
    put(long(32), at: 80)  // blocks
    put(long(40), word(64), at: 96)  // access
    if let birth { put(UInt64(bitPattern: Int64(birth.tv_sec)), UInt32(birth.tv_nsec), at: 112) }
    put(long(56), word(72), at: 128)  // change
    put(long(48), word(68), at: 144)  // modification
    // As the kernel packs it: 12 bits major between 8 and 12 more of minor.
    let device = word(92)
    put((device & 0xfff00) >> 8, at: 160)
    put((device & 0xff) | ((device >> 12) & 0xfff00), at: 164)
  }
}
