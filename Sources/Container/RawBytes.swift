extension UnsafeRawPointer {
  /// The little-endian integer at an offset; the caller has checked that it lies inside.
  @inline(__always)
  func integer<T: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: T.Type = T.self)
    -> T
  {
    T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
  }

  /// Whether every one of `count` bytes is zero.
  func isZero(count: Int) -> Bool {
    var position = 0
    while position + 8 <= count {
      if loadUnaligned(fromByteOffset: position, as: UInt64.self) != 0 { return false }
      position += 8
    }
    while position < count {
      if load(fromByteOffset: position, as: UInt8.self) != 0 { return false }
      position += 1
    }
    return true
  }
}

extension UnsafeMutableRawPointer {
  /// Writes a little-endian integer at an offset; the caller has checked that it fits.
  @inline(__always)
  func store<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
    storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
  }

  /// Sets `count` bytes from an offset on to zero.
  func zero(from offset: Int, count: Int) {
    if count > 0 { (self + offset).initializeMemory(as: UInt8.self, repeating: 0, count: count) }
  }

  /// The `count` bytes from here on.
  func buffer(_ count: Int) -> UnsafeMutableRawBufferPointer { .init(start: self, count: count) }
}

extension UnsafeRawPointer {
  /// The `count` bytes from here on.
  func buffer(_ count: Int) -> UnsafeRawBufferPointer { .init(start: self, count: count) }
}

extension UnsafeRawBufferPointer {
  /// The little-endian integer at an offset.
  func integer<T: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: T.Type = T.self)
    -> T
  {
    T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
  }
}

extension UnsafeMutableRawBufferPointer {
  /// Writes a little-endian integer at an offset.
  func store<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
    storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
  }
}
