/// Goes through everything a header refers to and notes what is wrong with it.
struct TreeWalker {
  /// How much is read.
  enum Reads {
    /// Nodes and free-list pages.
    case nodes
    /// Also blocks, whose tags are checked.
    case blocks
    /// Also what blocks decompress to.
    case content
  }

  /// Something wrong, and the pages it concerns.
  struct Finding {
    var damage: Damage
    var extent: Extent
  }

  private let pages: PageFile
  private let header: Header
  private let older: OlderTree?
  private let reads: Reads
  private let scratch = Scratch()
  private var used = PageSet()
  /// Pages the backing file has; a last one that is cut off is not counted.
  private var storedPages: UInt64 = 0
  /// What was found.
  private(set) var damages: [Finding] = []

  /// - Parameters:
  ///   - pages: The backing file, with the header's limits.
  ///   - header: Where to begin.
  ///   - older: What need not be looked at: references that it has in the same place.
  ///   - reads: How much to read.
  init(pages: PageFile, header: Header, older: OlderTree? = nil, reads: Reads) {
    self.pages = pages
    self.header = header
    self.older = older
    self.reads = reads
  }

  /// Goes through it all.
  ///
  /// - Parameter progress: Told how many more bytes were read.
  /// - Throws: `.io`; damage is noted instead.
  mutating func walk(_ progress: (UInt64) -> Void) throws(ContainerError) {
    do {
      storedPages = try pages.store.length() >> 12
    } catch {
      throw .io(error)
    }
    switch header.content {
    case .inline: break
    case .packed(let reference, let tail):
      try visit(reference, tail, level: 0, index: 0, progress)
    case .tree(let references):
      for (index, reference) in references.enumerated() {
        try visit(reference, level: header.depth, index: UInt64(index), progress)
      }
    }
    try walkFreeList(progress)
  }

  /// Pages of the backing file that nothing refers to; none where damage hides what is referred to.
  var unused: [Extent] {
    let first = UInt64(Format.slotCount)
    guard damages.isEmpty, older == nil, storedPages > first else { return [] }
    return used.gaps(in: Extent(start: first, count: storedPages - first))
  }

  private mutating func note(_ kind: Damage.Kind, _ extent: Extent) {
    damages.append(Finding(damage: Damage(kind, page: extent.start), extent: extent))
  }

  /// - Parameters:
  ///   - reference: What to look at.
  ///   - tail: What the header holds of a block.
  ///   - level: 0 for a block, else the node's.
  ///   - index: Its place among all references of that level.
  ///   - progress: Told how many more bytes were read.
  /// - Throws: `.io`; damage is noted instead.
  private mutating func visit(
    _ reference: Reference, _ tail: BlockTail? = nil, level: Int, index: UInt64,
    _ progress: (UInt64) -> Void
  ) throws(ContainerError) {
    if reference.isHole {
      if let tail { try visitBlock(reference, tail, progress) }
      return
    }
    if let older, try older.reference(level: level, index: index) == reference { return }
    // What is referred to twice was forged; following it could take forever.
    guard claim(reference.extent) else { return }
    if reference.extent.end > storedPages { return note(.missingPages, reference.extent) }
    if level == 0 {
      try visitBlock(reference, tail, progress)
      return
    }
    let page = UnsafeMutableRawPointer.allocate(byteCount: Format.pageSize, alignment: 64)
    defer { page.deallocate() }
    var copy = reference
    do throws(ContainerError) {
      try pages.readNode(&copy, into: page, level: level)
    } catch .damaged(let damage) {
      return note(damage.kind, reference.extent)
    }
    progress(UInt64(Format.pageSize))
    let references = page.assumingMemoryBound(to: Reference.self)
    for child in 0..<Format.nodeFanout {
      try visit(
        references[child], level: level - 1,
        index: index * UInt64(Format.nodeFanout) + UInt64(child),
        progress)
    }
  }

  private mutating func visitBlock(
    _ reference: Reference, _ tail: BlockTail?, _ progress: (UInt64) -> Void
  ) throws(ContainerError) {
    var cipher = pages.cipher()
    var copy = reference
    do throws(ContainerError) {
      switch reads {
      case .nodes: return
      case .blocks:
        if !reference.isHole { try pages.read(&copy, into: scratch.run, &cipher) }
      case .content:
        try pages.decode(
          &copy, tail, into: scratch.block.buffer(pages.policy.blockSize), scratch, &cipher)
      }
    } catch .damaged(let damage) {
      return note(damage.kind, reference.extent)
    }
    progress(UInt64(reference.pageCount) << 12)
  }

  /// Notes pages as used; finding them used already is damage.
  private mutating func claim(_ extent: Extent) -> Bool {
    if used.intersects(extent) {
      note(.freeListOverlap, extent)
      return false
    }
    used.insert(extent)
    return true
  }

  private mutating func walkFreeList(_ progress: (UInt64) -> Void) throws(ContainerError) {
    var extents = header.free + header.held
    var next = header.list
    let isOld = older.map { $0.header.list == next } ?? false
    while !next.isHole, !isOld {
      if used.intersects(next.extent) { return note(.freeListOverlap, next.extent) }
      used.insert(next.extent)
      do throws(ContainerError) {
        let page = try pages.readList(next)
        extents += page.extents
        next = page.next
      } catch .damaged(let damage) {
        return note(damage.kind, next.extent)
      }
      progress(UInt64(Format.pageSize))
    }
    // Pages in use are only all known where nothing was passed over.
    guard older == nil else { return }
    // A free list may go far beyond the end of the file, and memory must not follow it there.
    for extent in extents where extent.start < storedPages {
      _ = claim(Extent(start: extent.start, count: min(extent.end, storedPages) - extent.start))
    }
    let sorted = extents.sorted { $0.start < $1.start }
    for (extent, following) in zip(sorted, sorted.dropFirst())
    where extent.end > following.start && following.start >= storedPages {
      note(.freeListOverlap, following)
    }
  }
}

/// The references of an older commit by place, to tell what a newer one changed.
final class OlderTree {
  let header: Header
  private let pages: PageFile
  /// The node read last, for each level.
  private var nodes: [Int: (index: UInt64, references: [Reference]?)] = [:]

  init(pages: PageFile, header: Header) {
    self.header = header
    self.pages = PageFile(store: pages.store, ring: pages.ring, limits: header.limits, seals: 0)
  }

  /// The reference at a place; nil if the tree has none there or cannot be read.
  func reference(level: Int, index: UInt64) throws(ContainerError) -> Reference? {
    if case .packed(let only, _) = header.content { return level == 0 && index == 0 ? only : nil }
    guard case .tree(let roots) = header.content, level <= header.depth else { return nil }
    if level == header.depth { return index < UInt64(roots.count) ? roots[Int(index)] : nil }
    let fanout = UInt64(Format.nodeFanout)
    let references = try node(level: level + 1, index: index / fanout)
    return references.map { $0[Int(index % fanout)] }
  }

  private func node(level: Int, index: UInt64) throws(ContainerError) -> [Reference]? {
    if let known = nodes[level], known.index == index { return known.references }
    var references: [Reference]?
    if var reference = try reference(level: level, index: index), !reference.isHole {
      let page = UnsafeMutableRawPointer.allocate(byteCount: Format.pageSize, alignment: 64)
      defer { page.deallocate() }
      do throws(ContainerError) {
        try pages.readNode(&reference, into: page, level: level)
        let bound = page.assumingMemoryBound(to: Reference.self)
        references = (0..<Format.nodeFanout).map { bound[$0] }
      } catch .damaged {
        references = nil
      }
    }
    nodes[level] = (index, references)
    return references
  }
}
