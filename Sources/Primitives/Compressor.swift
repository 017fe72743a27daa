import CZstd

/// Why a zstd frame was rejected.
public enum ZstdError: Error, Equatable, Sendable {
  /// Not exactly one valid frame with its content size.
  case corrupt
  /// The content would exceed the space given.
  case tooLarge
  /// zstd could not get memory for a context.
  case outOfMemory
}

/// zstd with reused contexts. An instance may move between threads but serves one call at a time.
public final class Compressor: @unchecked Sendable {
  private var compression: OpaquePointer?
  private var decompression: OpaquePointer?

  /// The levels zstd offers; others are brought into this range.
  public static let levels = Int(ZSTD_minCLevel())...Int(ZSTD_maxCLevel())

  /// Creates contexts only when first needed.
  public init() {}

  deinit {
    ZSTD_freeCCtx(compression)
    ZSTD_freeDCtx(decompression)
  }

  /// Compresses into one frame that states its content size.
  ///
  /// - Parameters:
  ///   - source: The bytes to compress.
  ///   - destination: Where the frame goes; its content is undefined if the frame does not fit.
  ///   - level: The compression level.
  /// - Returns: Length of the frame in bytes; nil if it does not fit, or without memory.
  public func compress(
    _ source: UnsafeRawBufferPointer, into destination: UnsafeMutableRawBufferPointer, level: Int
  ) -> Int? {
    if compression == nil { compression = ZSTD_createCCtx() }
    guard let context = compression else { return nil }
    let level = min(max(level, Compressor.levels.lowerBound), Compressor.levels.upperBound)
    let set = ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, Int32(level))
    guard ZSTD_isError(set) == 0 else { return nil }
    let count = ZSTD_compress2(
      context, destination.baseAddress, destination.count, source.baseAddress, source.count)
    return ZSTD_isError(count) == 0 ? count : nil
  }

  /// Decompresses exactly one frame. Never writes beyond `destination`, whatever the frame claims.
  ///
  /// - Parameters:
  ///   - source: One whole frame with nothing before or after it.
  ///   - destination: Where the content goes; undefined after an error.
  /// - Returns: Length of the content in bytes.
  /// - Throws: `.tooLarge` if the content does not fit, `.corrupt`, `.outOfMemory`.
  public func decompress(
    _ source: UnsafeRawBufferPointer, into destination: UnsafeMutableRawBufferPointer
  ) throws(ZstdError) -> Int {
    // A skippable frame would decode to nothing.
    guard source.count >= 4,
      UInt32(littleEndian: source.loadUnaligned(as: UInt32.self)) == ZSTD_MAGICNUMBER
    else { throw .corrupt }
    let size = ZSTD_getFrameContentSize(source.baseAddress, source.count)
    // The two largest values stand for "unknown" and "error".
    guard size < UInt64.max - 1 else { throw .corrupt }
    guard size <= UInt64(destination.count) else { throw .tooLarge }
    guard ZSTD_findFrameCompressedSize(source.baseAddress, source.count) == source.count else {
      throw .corrupt
    }
    if decompression == nil { decompression = ZSTD_createDCtx() }
    guard let context = decompression else { throw .outOfMemory }
    let count = ZSTD_decompressDCtx(
      context, destination.baseAddress, destination.count, source.baseAddress, source.count)
    guard ZSTD_isError(count) == 0, UInt64(count) == size else { throw .corrupt }
    return count
  }
}
