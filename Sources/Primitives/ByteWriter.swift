/// Appends little-endian fields to bytes that grow as needed.
public struct ByteWriter: Sendable {
  /// What was written so far.
  public private(set) var bytes: [UInt8] = []

  /// Starts empty.
  ///
  /// - Parameter capacity: Bytes to make room for.
  public init(capacity: Int = 0) {
    bytes.reserveCapacity(capacity)
  }

  /// Appends an integer of any width.
  public mutating func write<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) {
    Swift.withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  /// Appends the low three bytes of a number below 2^24.
  public mutating func writeUInt24(_ value: UInt32) {
    precondition(value < 1 << 24, "the number has more than 24 bits")
    write(UInt16(truncatingIfNeeded: value))
    write(UInt8(truncatingIfNeeded: value >> 16))
  }

  /// Appends the low six bytes of a number below 2^48.
  public mutating func writeUInt48(_ value: UInt64) {
    precondition(value < 1 << 48, "the number has more than 48 bits")
    write(UInt32(truncatingIfNeeded: value))
    write(UInt16(truncatingIfNeeded: value >> 32))
  }

  /// Appends bytes as they are.
  public mutating func write(_ source: [UInt8]) {
    bytes.append(contentsOf: source)
  }

  /// Appends bytes as they are.
  public mutating func write(_ source: UnsafeRawBufferPointer) {
    bytes.append(contentsOf: source)
  }

  /// Appends zeros.
  public mutating func writeZeros(_ count: Int) {
    bytes.append(contentsOf: repeatElement(0, count: count))
  }
}

/// Writes little-endian fields into memory of fixed size, such as a page; allocates nothing.
///
/// The memory must outlive the writer.
@frozen
public struct BufferWriter {
  /// Everything the writer was given.
  public let bytes: UnsafeMutableRawBufferPointer
  /// Offset in bytes of the next field.
  @inlinable public var offset: Int { position }
  @usableFromInline var position = 0

  /// Starts at the first of `bytes`.
  @inlinable
  public init(_ bytes: UnsafeMutableRawBufferPointer) {
    self.bytes = bytes
  }

  /// How many bytes of space are left.
  @inlinable public var remaining: Int { bytes.count - offset }

  /// Writes an integer of any width.
  ///
  /// - Throws: `.noSpace`.
  @inlinable
  public mutating func write<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) throws(CodecError)
  {
    let size = MemoryLayout<T>.size
    guard size <= remaining else { throw .noSpace }
    bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    position += size
  }

  /// Writes the low three bytes of a number below 2^24.
  ///
  /// - Throws: `.noSpace`.
  @inlinable
  public mutating func writeUInt24(_ value: UInt32) throws(CodecError) {
    precondition(value < 1 << 24, "the number has more than 24 bits")
    guard remaining >= 3 else { throw .noSpace }
    try write(UInt16(truncatingIfNeeded: value))
    try write(UInt8(truncatingIfNeeded: value >> 16))
  }

  /// Writes the low six bytes of a number below 2^48.
  ///
  /// - Throws: `.noSpace`.
  @inlinable
  public mutating func writeUInt48(_ value: UInt64) throws(CodecError) {
    precondition(value < 1 << 48, "the number has more than 48 bits")
    guard remaining >= 6 else { throw .noSpace }
    try write(UInt32(truncatingIfNeeded: value))
    try write(UInt16(truncatingIfNeeded: value >> 32))
  }

  /// Writes bytes as they are.
  ///
  /// - Throws: `.noSpace`.
  @inlinable
  public mutating func write(_ source: UnsafeRawBufferPointer) throws(CodecError) {
    guard source.count <= remaining else { throw .noSpace }
    UnsafeMutableRawBufferPointer(rebasing: bytes[offset...]).copyMemory(from: source)
    position += source.count
  }

  /// Writes bytes as they are.
  ///
  /// - Throws: `.noSpace`.
  @inlinable
  public mutating func write(_ source: [UInt8]) throws(CodecError) {
    guard source.count <= remaining else { throw .noSpace }
    UnsafeMutableRawBufferPointer(rebasing: bytes[offset...]).copyBytes(from: source)
    position += source.count
  }

  /// Takes the next bytes of space for the caller to fill.
  ///
  /// - Parameter count: How many; negative or more than are left is `.noSpace`.
  /// - Returns: The memory to fill.
  /// - Throws: `.noSpace`.
  @inlinable
  public mutating func reserve(_ count: Int) throws(CodecError) -> UnsafeMutableRawBufferPointer {
    guard count >= 0, count <= remaining else { throw .noSpace }
    defer { position += count }
    return UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<(offset + count)])
  }

  /// Writes zeros to the end of the memory.
  @inlinable
  public mutating func fillWithZeros() {
    UnsafeMutableRawBufferPointer(rebasing: bytes[offset...])
      .initializeMemory(as: UInt8.self, repeating: 0)
    position = bytes.count
  }
}
