import CFuse
import Glibc

/// One slot of a queue: the kernel puts a request in, the hook puts its reply there.
final class RingEntry {
  let index: Int
  let payload: Payload
  /// Room for payload in the flat request copy; what is larger (WRITE data) stays where the kernel put it.
  static let copiedPayload = 4096

  private let header: UnsafeMutableRawPointer
  private let vectors: UnsafeMutablePointer<iovec>
  /// The payload area holds the request in hand, so the reply must not be built there.
  private(set) var holdsRequest = false

  /// Nil when memory is exhausted.
  init?(index: Int) {
    guard let payload = Payload() else { return nil }
    self.index = index
    self.payload = payload
    header = .allocate(byteCount: Wire.ringHeaderSize, alignment: 64)
    header.initializeMemory(as: UInt8.self, repeating: 0, count: Wire.ringHeaderSize)
    vectors = .allocate(capacity: 2)
    vectors.initialize(to: iovec(iov_base: header, iov_len: Wire.ringHeaderSize))
    (vectors + 1).initialize(to: iovec(iov_base: payload.base, iov_len: Payload.capacity))
  }

  deinit {
    payload.free()
    header.deallocate()
    vectors.deallocate()
  }

  /// What REGISTER tells the kernel about this entry.
  var registration: UnsafePointer<iovec> { UnsafePointer(vectors) }

  /// What the request in the entry asks for.
  var opcode: UInt32 { header.load(fromByteOffset: 4, as: UInt32.self) }

  /// Names the request in the entry to COMMIT_AND_FETCH.
  var commitID: UInt64 {
    header.load(fromByteOffset: Wire.ringEntryOffset + 8, as: UInt64.self)
  }

  /// Size of a flat buffer for ``flatten(into:)``.
  static let flatSize = Wire.requestHeaderSize + Wire.ringOperationSize + copiedPayload

  /// The request as one run of bytes, as reading the device gives it; nil if its lengths make no sense.
  ///
  /// Small requests are copied into `small`, so that their names outlive the reply; the payload of a large
  /// one stays, and its headers are put into the margin before it.
  func flatten(into small: UnsafeMutableRawBufferPointer) -> UnsafeRawBufferPointer? {
    let length = Int(header.load(fromByteOffset: 0, as: UInt32.self))
    let payloadSize = Int(
      header.load(fromByteOffset: Wire.ringEntryOffset + 16, as: UInt32.self))
    let operationSize = length - Wire.requestHeaderSize - payloadSize
    holdsRequest = false
    guard operationSize >= 0, operationSize <= Wire.ringOperationSize,
      payloadSize <= Payload.capacity, let smallBase = small.baseAddress
    else { return nil }
    let heads = Wire.requestHeaderSize + operationSize
    holdsRequest = payloadSize > Self.copiedPayload
    // SAFETY: heads is at most 168 bytes: within the margin, and with 4096 more within `small` (flatSize).
    let start = holdsRequest ? payload.base - heads : smallBase
    memcpy(start, header, Wire.requestHeaderSize)
    memcpy(
      start + Wire.requestHeaderSize, header + Wire.ringOperationOffset, operationSize)
    if !holdsRequest { memcpy(start + heads, payload.base, payloadSize) }
    return UnsafeRawBufferPointer(start: start, count: length)
  }

  /// Stores a reply as libfuse sends it, header first: its length in bytes, or -1 with errno.
  func put(_ vectors: UnsafeBufferPointer<iovec>) -> Int {
    var size = 0
    for vector in vectors.dropFirst() {
      guard vector.iov_len <= Payload.capacity - size else {
        errno = EINVAL
        return -1
      }
      // Bytes that a handler put there itself need no move; others may overlap them.
      if let source = vector.iov_base, source != payload.base + size {
        memmove(payload.base + size, source, vector.iov_len)
      }
      size += vector.iov_len
    }
    guard let head = vectors[0].iov_base else {
      errno = EFAULT
      return -1
    }
    memcpy(header, head, Wire.replyHeaderSize)
    header.storeBytes(
      of: UInt32(size), toByteOffset: Wire.ringEntryOffset + 16, as: UInt32.self)
    return Wire.replyHeaderSize + size
  }

  /// Answers the request in the entry with an error.
  func fail(_ error: Int32) {
    header.storeBytes(of: UInt32(Wire.replyHeaderSize), toByteOffset: 0, as: UInt32.self)
    header.storeBytes(of: -error, toByteOffset: 4, as: Int32.self)
    header.storeBytes(of: commitID, toByteOffset: 8, as: UInt64.self)
    header.storeBytes(of: 0, toByteOffset: Wire.ringEntryOffset + 16, as: UInt32.self)
  }
}
