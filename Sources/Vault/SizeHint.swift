import Primitives
import SystemPackage

/// A container's size where one call reads it without opening the container (format §8.7).
struct SizeHint: Equatable {
  /// Logical size in bytes.
  var size: UInt64
  /// Length of the backing file in bytes when the hint was made.
  var backingLength: UInt64
  /// The commit it describes.
  var commit: UInt64

  static let count = 52

  private static let nonceCount = AEAD.nonceCount
  private static let bodyCount = 24

  init(size: UInt64, backingLength: UInt64, commit: UInt64) {
    self.size = size
    self.backingLength = backingLength
    self.commit = commit
  }

  func sealed(with keys: MasterKeys, inode: UInt64) throws(VaultError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: SizeHint.count)
    let isSealed = bytes.withUnsafeMutableBytes { bytes in
      func store(_ number: UInt64, _ index: Int) {
        bytes.storeBytes(
          of: number.littleEndian, toByteOffset: SizeHint.nonceCount + index * 8, as: UInt64.self)
      }
      store(size, 0)
      store(backingLength, 1)
      store(commit, 2)
      return SizeHint.withParts(bytes, inode) { nonce, body, tag, data in
        (try? keys.hints.seal(body, associatedData: data, nonce: nonce, tag: tag)) != nil
      }
    }
    guard isSealed else { throw .system(.noMemory, "sealing a size hint") }
    return bytes
  }

  /// Opens a stored hint; nil if it is not one this vault made.
  init?(opening bytes: consuming [UInt8], with keys: MasterKeys, inode: UInt64) {
    guard bytes.count == SizeHint.count else { return nil }
    let hint = bytes.withUnsafeMutableBytes { bytes -> SizeHint? in
      let isOurs = SizeHint.withParts(bytes, inode) { nonce, body, tag, data in
        (try? keys.hints.open(
          body, associatedData: data, nonce: UnsafeRawPointer(nonce), tag: UnsafeRawPointer(tag)))
          != nil
      }
      guard isOurs else { return nil }
      func number(_ index: Int) -> UInt64 {
        UInt64(
          littleEndian: bytes.loadUnaligned(
            fromByteOffset: SizeHint.nonceCount + index * 8, as: UInt64.self))
      }
      return SizeHint(size: number(0), backingLength: number(1), commit: number(2))
    }
    guard let hint else { return nil }
    self = hint
  }

  /// Lends nonce, body, tag and associated data. Bound to the inode: moved to another file of the same length a hint
  /// must not open.
  private static func withParts(
    _ bytes: UnsafeMutableRawBufferPointer, _ inode: UInt64,
    _ call: (
      _ nonce: UnsafeMutableRawPointer, _ body: UnsafeMutableRawBufferPointer,
      _ tag: UnsafeMutableRawPointer, _ data: UnsafeRawBufferPointer
    ) -> Bool
  ) -> Bool {
    let name = Format.hintData
    return withUnsafeTemporaryAllocation(byteCount: name.count + 8, alignment: 8) { data in
      data.copyBytes(from: name)
      data.storeBytes(of: inode.littleEndian, toByteOffset: name.count, as: UInt64.self)
      // SAFETY: the callers' buffers have `count` bytes: 12 of nonce, 24 of body, 16 of tag.
      guard let start = bytes.baseAddress else { return false }
      let body = UnsafeMutableRawBufferPointer(start: start + nonceCount, count: bodyCount)
      return call(start, body, start + nonceCount + bodyCount, UnsafeRawBufferPointer(data))
    }
  }
}
