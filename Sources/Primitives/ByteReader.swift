/// Why bytes could not be decoded or encoded.
public enum CodecError: Error, Equatable, Sendable {
  /// The bytes end before the field does.
  case truncated
  /// Bytes are left where the structure must end.
  case trailing
  /// The fixed space is too small for what is written.
  case noSpace
}

/// Reads little-endian fields one after another; never beyond the bytes it was given.
///
/// The bytes must outlive the reader.
@frozen
public struct ByteReader {
  /// Everything the reader was given.
  public let bytes: UnsafeRawBufferPointer
  /// Offset in bytes of the next field.
  @inlinable public var offset: Int { position }
  @usableFromInline var position = 0

  /// Starts at the first of `bytes`.
  @inlinable
  public init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
  }

  /// How many bytes are left.
  @inlinable public var remaining: Int { bytes.count - offset }

  /// Takes the next bytes without copying them.
  ///
  /// - Parameter count: How many; negative or more than are left is `.truncated`.
  /// - Returns: The bytes, valid as long as those the reader was given.
  /// - Throws: `.truncated`.
  @inlinable
  public mutating func read(_ count: Int) throws(CodecError) -> UnsafeRawBufferPointer {
    guard count >= 0, count <= remaining else { throw .truncated }
    defer { position += count }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)])
  }

  /// Copies the next bytes.
  ///
  /// - Parameter count: How many; negative or more than are left is `.truncated`.
  /// - Returns: A copy of the bytes.
  /// - Throws: `.truncated`.
  @inlinable
  public mutating func readArray(_ count: Int) throws(CodecError) -> [UInt8] {
    [UInt8](try read(count))
  }

  /// Moves past bytes.
  ///
  /// - Parameter count: How many; negative or more than are left is `.truncated`.
  /// - Throws: `.truncated`.
  @inlinable
  public mutating func skip(_ count: Int) throws(CodecError) {
    guard count >= 0, count <= remaining else { throw .truncated }
    position += count
  }

  /// Moves to an offset from the start, in bytes.
  ///
  /// - Throws: `.truncated` if it lies outside the bytes.
  @inlinable
  public mutating func seek(to offset: Int) throws(CodecError) {
    guard (0...bytes.count).contains(offset) else { throw .truncated }
    position = offset
  }

  /// Reads a little-endian integer of the type asked for.
  ///
  /// - Throws: `.truncated`.
  @inlinable
  public mutating func readInteger<T: FixedWidthInteger & BitwiseCopyable>(
    as type: T.Type = T.self
  ) throws(CodecError) -> T {
    let size = MemoryLayout<T>.size
    guard size <= remaining else { throw .truncated }
    defer { position += size }
    return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
  }

  /// Reads one byte.
  @inlinable public mutating func readUInt8() throws(CodecError) -> UInt8 { try readInteger() }
  /// Reads two bytes.
  @inlinable public mutating func readUInt16() throws(CodecError) -> UInt16 { try readInteger() }
  /// Reads four bytes.
  @inlinable public mutating func readUInt32() throws(CodecError) -> UInt32 { try readInteger() }
  /// Reads eight bytes.
  @inlinable public mutating func readUInt64() throws(CodecError) -> UInt64 { try readInteger() }
  /// Reads eight bytes as a two's complement number.
  @inlinable public mutating func readInt64() throws(CodecError) -> Int64 { try readInteger() }

  /// Reads three bytes.
  @inlinable
  public mutating func readUInt24() throws(CodecError) -> UInt32 {
    guard remaining >= 3 else { throw .truncated }
    let low = UInt32(try readUInt16())
    return low | UInt32(try readUInt8()) << 16
  }

  /// Reads six bytes.
  @inlinable
  public mutating func readUInt48() throws(CodecError) -> UInt64 {
    guard remaining >= 6 else { throw .truncated }
    let low = UInt64(try readUInt32())
    return low | UInt64(try readUInt16()) << 32
  }

  /// Ends the structure.
  ///
  /// - Throws: `.trailing` if bytes are left.
  @inlinable
  public func finish() throws(CodecError) {
    guard remaining == 0 else { throw .trailing }
  }

  /// Ends a structure that is padded with zeros.
  ///
  /// - Throws: `.trailing` if anything but zero is left.
  public mutating func finishZeroPadded() throws(CodecError) {
    for byte in bytes[offset...] where byte != 0 { throw .trailing }
    position = bytes.count
  }
}

extension [UInt8] {
  /// Lends the array to a reader for the length of a call.
  @inlinable
  public func withByteReader<R, E>(_ body: (inout ByteReader) throws(E) -> R) throws(E) -> R {
    let result = withUnsafeBytes { bytes -> Result<R, E> in
      var reader = ByteReader(bytes)
      do throws(E) { return .success(try body(&reader)) } catch { return .failure(error) }
    }
    return try result.get()
  }
}
