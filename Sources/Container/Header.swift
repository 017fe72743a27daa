import Primitives

/// The content of a header slot, docs/format.md §8.1 and §8.2.
struct Header {
  var policy: ContentPolicy
  var suite: CipherSuite
  var epoch: UInt16
  var fileID: FileID
  var commit: UInt64
  var session: UInt64
  var size: UInt64 = 0
  var pageCount: UInt64 = 1
  var depth = 0
  var bindings: [Binding] = []
  var bindingsOverflow = false
  /// The other slot has never been written.
  var isAlone = true
  var seals: UInt64 = 0
  var heldCommit: UInt64 = 0
  var list = Reference.hole
  var free: [Extent] = []
  var held: [Extent] = []
  var content = Content.inline([])

  enum Content {
    case inline([UInt8])
    /// 80 references.
    case tree([Reference])
    /// The only block: its whole pages, and what follows them.
    case packed(Reference, BlockTail)
  }

  var limits: ReferenceLimits {
    ReferenceLimits(policy: policy, epoch: epoch, pageCount: pageCount)
  }

  /// Bytes of inline content that fit beside so many bindings and extents.
  static func inlineRoom(bindings: Int, extents: Int = 0) -> Int {
    Format.bodyCount - Format.bodyFixedCount - Binding.count * max(2, bindings)
      - Format.extentCount * extents
  }

  /// Bytes of a block's tail that fit beside so many bindings, and beside a few extents, which would
  /// take a page of their own otherwise.
  static func tailRoom(bindings: Int) -> Int {
    inlineRoom(bindings: bindings, extents: 4) - Format.packedFixedCount
  }

  /// Extents that fit into the header beside the content.
  var extentRoom: Int {
    let used =
      switch content {
      case .inline(let bytes): bytes.count
      case .tree: Format.rootFanout * Format.referenceCount
      case .packed(_, let tail): Format.packedFixedCount + tail.bytes.count
      }
    let room = Format.bodyCount - Format.bodyFixedCount - Binding.count * bindings.count - used
    return min(Format.headerExtentLimit, max(0, room / Format.extentCount))
  }

  // MARK: Encoding

  /// Writes the slot, in clear, into a page; `Cipher.sealSlot` seals it.
  func encode(into page: UnsafeMutableRawPointer) {
    page.zero(from: 0, count: Format.pageSize)
    page.store(Format.magic, at: 0)
    page.store(policy.rawValue, at: 8)
    page.store(suite.rawValue, at: 9)
    page.store(UInt8(policy.blockShift), at: 10)
    page.store(epoch, at: 12)
    page.store(fileID.low, at: 16)
    page.store(fileID.high, at: 24)
    page.store(commit, at: 32)
    page.store(session, at: 40)
    encodeBody(into: page + Format.bodyOffset)
  }

  private func encodeBody(into body: UnsafeMutableRawPointer) {
    body.store(size, at: 0)
    body.store(pageCount, at: 8)
    body.store(UInt8(depth), at: 17)
    body.store(UInt8(bindings.count), at: 18)
    body.store(UInt8(bindingsOverflow ? 1 : 0) | UInt8(isAlone ? 2 : 0), at: 19)
    body.store(UInt16(free.count), at: 20)
    body.store(UInt16(held.count), at: 22)
    body.store(seals, at: 24)
    body.store(heldCommit, at: 32)
    body.storeBytes(of: list, toByteOffset: 40, as: Reference.self)
    var offset = Format.bodyFixedCount
    for binding in bindings {
      body.store(binding.low, at: offset)
      body.store(binding.high, at: offset + 8)
      offset += Binding.count
    }
    for extent in free + held {
      FreeList.encode(extent, into: body + offset)
      offset += Format.extentCount
    }
    switch content {
    case .inline(let bytes):
      body.store(UInt8(0), at: 16)
      bytes.withUnsafeBytes { (body + offset).buffer(bytes.count).copyMemory(from: $0) }
    case .tree(let references):
      body.store(UInt8(1), at: 16)
      for reference in references {
        body.storeBytes(of: reference, toByteOffset: offset, as: Reference.self)
        offset += Format.referenceCount
      }
    case .packed(let pages, let tail):
      body.store(UInt8(2), at: 16)
      body.storeBytes(of: pages, toByteOffset: offset, as: Reference.self)
      offset += Format.referenceCount
      body.store(UInt16(tail.bytes.count), at: offset)
      body.store(tail.codec.rawValue, at: offset + 2)
      offset += 4
      tail.bytes.withUnsafeBytes { (body + offset).buffer($0.count).copyMemory(from: $0) }
    }
  }

}

/// The end of a small file's only block that lies in the header, after the block's whole pages.
struct BlockTail {
  /// Codec of the whole block.
  var codec: Codec
  /// The last stored bytes of the block, at least one.
  var bytes: [UInt8]
}

// MARK: Decoding

extension Header {
  /// Reads the clear part of a slot; nil if it is not one that this reader knows.
  init?(clearPartOf page: UnsafeRawPointer) {
    guard page.integer(at: 0, as: UInt64.self) == Format.magic,
      let policy = ContentPolicy(rawValue: page.integer(at: 8)), policy != .plain,
      let suite = CipherSuite(rawValue: page.integer(at: 9)),
      page.integer(at: 10, as: UInt8.self) == UInt8(policy.blockShift),
      page.integer(at: 11, as: UInt8.self) == 0, page.integer(at: 14, as: UInt16.self) == 0,
      page.integer(at: 76, as: UInt32.self) == 0
    else { return nil }
    self.policy = policy
    self.suite = suite
    epoch = page.integer(at: 12)
    fileID = FileID(low: page.integer(at: 16), high: page.integer(at: 24))
    commit = page.integer(at: 32)
    session = page.integer(at: 40)
    guard epoch >= 1, commit >= 1 else { return nil }
  }

  /// Reads the body of a slot that was opened.
  ///
  /// - Returns: false if a field breaks the format's rules.
  mutating func decodeBody(_ body: UnsafeRawPointer) -> Bool {
    size = body.integer(at: 0)
    pageCount = body.integer(at: 8)
    depth = Int(body.integer(at: 17, as: UInt8.self))
    let bindingCount = Int(body.integer(at: 18, as: UInt8.self))
    let flags: UInt8 = body.integer(at: 19)
    let freeCount = Int(body.integer(at: 20, as: UInt16.self))
    let heldCount = Int(body.integer(at: 22, as: UInt16.self))
    seals = body.integer(at: 24)
    heldCommit = body.integer(at: 32)
    list = body.loadUnaligned(fromByteOffset: 40, as: Reference.self)
    bindingsOverflow = flags & 1 != 0
    isAlone = flags & 2 != 0
    guard size <= Format.maximumSize, pageCount >= 1, pageCount < Format.pageCountLimit,
      depth <= Format.maximumDepth, bindingCount <= Format.bindingLimit, flags <= 3,
      freeCount + heldCount <= Format.headerExtentLimit, list.isValid(limits, inner: true)
    else { return false }

    var offset = Format.bodyFixedCount
    for index in 0..<bindingCount {
      let at = offset + Binding.count * index
      bindings.append(Binding(low: body.integer(at: at), high: body.integer(at: at + 8)))
    }
    offset += Binding.count * bindingCount
    for index in 0..<(freeCount + heldCount) {
      let at = body + offset + Format.extentCount * index
      guard let extent = FreeList.decode(at, pageCount: pageCount) else { return false }
      if index < freeCount { free.append(extent) } else { held.append(extent) }
    }
    offset += Format.extentCount * (freeCount + heldCount)
    return decodeContent(body, layout: body.integer(at: 16), offset: offset)
  }

  private mutating func decodeContent(
    _ body: UnsafeRawPointer, layout: UInt8, offset: Int
  ) -> Bool {
    let end: Int
    switch layout {
    case 0:
      guard depth == 0, size <= UInt64(Format.bodyCount - offset) else { return false }
      end = offset + Int(size)
      content = .inline([UInt8]((body + offset).buffer(Int(size))))
    case 1:
      end = offset + Format.rootFanout * Format.referenceCount
      guard end <= Format.bodyCount else { return false }
      let blocks = (size + UInt64(policy.blockSize) - 1) >> policy.blockShift
      guard Format.blocksCovered(depth: depth) >= blocks else { return false }
      var references: [Reference] = []
      references.reserveCapacity(Format.rootFanout)
      for index in 0..<Format.rootFanout {
        let reference = body.loadUnaligned(
          fromByteOffset: offset + Format.referenceCount * index, as: Reference.self)
        guard reference.isValid(limits, inner: depth > 0) else { return false }
        references.append(reference)
      }
      content = .tree(references)
    case 2:
      guard let packed = decodePacked(body, offset: offset) else { return false }
      end = offset + Format.packedFixedCount + packed.tail.bytes.count
      content = .packed(packed.pages, packed.tail)
    default:
      return false
    }
    return (body + end).isZero(count: Format.bodyCount - end)
  }

  private func decodePacked(
    _ body: UnsafeRawPointer, offset: Int
  ) -> (pages: Reference, tail: BlockTail)? {
    guard policy.isCompressed, depth == 0, size >= 1, size <= UInt64(policy.blockSize),
      offset + Format.packedFixedCount <= Format.bodyCount
    else { return nil }
    let pages = body.loadUnaligned(fromByteOffset: offset, as: Reference.self)
    let at = offset + Format.referenceCount
    let count = Int(body.integer(at: at, as: UInt16.self))
    guard pages.isValid(limits, inner: false), pages.codec == Codec.raw.rawValue,
      pages.length & (Format.pageSize - 1) == 0,
      let codec = Codec(rawValue: body.integer(at: at + 2)),
      body.integer(at: at + 3, as: UInt8.self) == 0, count >= 1,
      count <= Format.bodyCount - at - 4, pages.length + count <= policy.blockSize
    else { return nil }
    return (pages, BlockTail(codec: codec, bytes: [UInt8]((body + at + 4).buffer(count))))
  }
}
