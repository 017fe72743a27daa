/// Where a block, node or free-list page is stored and what authenticates it: docs/format.md §8.3.
///
/// The five words are the 40 bytes as they are on disk, so that a node's page is its decoded form.
struct Reference: BitwiseCopyable, Equatable {
  private var word0: UInt64
  private var word1: UInt64
  private var word2: UInt64
  private var word3: UInt64
  private var word4: UInt64

  /// No bytes: zeros, or a subtree of zeros.
  static let hole = Reference(word0: 0, word1: 0, word2: 0, word3: 0, word4: 0)

  private init(word0: UInt64, word1: UInt64, word2: UInt64, word3: UInt64, word4: UInt64) {
    self.word0 = word0
    self.word1 = word1
    self.word2 = word2
    self.word3 = word3
    self.word4 = word4
  }

  /// A reference without nonce and tag.
  init(page: UInt64, length: Int, codec: Codec, epoch: UInt16) {
    word0 = (page | UInt64(length & 0xFFFF) << 48).littleEndian
    word1 =
      (UInt64(length >> 16) | UInt64(codec.rawValue) << 8 | UInt64(epoch) << 16).littleEndian
    word2 = 0
    word3 = 0
    word4 = 0
  }

  @inline(__always) var isHole: Bool { word0 | word1 | word2 | word3 | word4 == 0 }

  /// First page.
  @inline(__always) var page: UInt64 {
    get { UInt64(littleEndian: word0) & (1 << 48 - 1) }
    set { word0 = ((UInt64(littleEndian: word0) & (0xFFFF << 48)) | newValue).littleEndian }
  }

  /// Bytes stored.
  @inline(__always) var length: Int {
    Int(UInt64(littleEndian: word0) >> 48 | (UInt64(littleEndian: word1) & 0xFF) << 16)
  }

  /// Codec as it is on disk.
  @inline(__always) var codec: UInt8 {
    UInt8(truncatingIfNeeded: UInt64(littleEndian: word1) >> 8)
  }

  /// Key epoch the pages were sealed in.
  @inline(__always) var epoch: UInt16 {
    UInt16(truncatingIfNeeded: UInt64(littleEndian: word1) >> 16)
  }

  /// Pages occupied.
  @inline(__always) var pageCount: Int { Format.pages(for: length) }

  /// The pages occupied.
  var extent: Extent { Extent(start: page, count: UInt64(pageCount)) }

  /// Offset of the nonce in the reference, in bytes.
  static let nonceOffset = 12
  /// Offset of the tag in the reference, in bytes.
  static let tagOffset = 24

  /// Whether the reference may stand in a container with these limits.
  ///
  /// - Parameters:
  ///   - limits: What the header allows.
  ///   - inner: Whether it names a node or free-list page instead of a block.
  /// - Returns: Whether it may; a hole always does.
  func isValid(_ limits: ReferenceLimits, inner: Bool) -> Bool {
    if isHole { return true }
    guard page >= UInt64(Format.slotCount), epoch >= 1, epoch <= limits.epoch, length >= 1,
      page + UInt64(pageCount) <= limits.pageCount
    else { return false }
    if inner || !limits.policy.isCompressed {
      return length == Format.pageSize && codec == Codec.raw.rawValue
    }
    return length <= limits.policy.blockSize && codec <= Codec.zstd.rawValue
  }
}

/// How a block's content became stored bytes.
enum Codec: UInt8 {
  case raw = 0
  case zstd = 1
}

/// Bounds that the header sets for references.
struct ReferenceLimits {
  var policy: ContentPolicy
  var epoch: UInt16
  var pageCount: UInt64
}

/// Consecutive pages.
struct Extent: Equatable, BitwiseCopyable {
  var start: UInt64
  var count: UInt64

  var end: UInt64 { start + count }
}
