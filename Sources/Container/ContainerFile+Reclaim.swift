import Primitives

/// Pages of a backing file that no tree uses and no free list states. A sync leaves out what is long of a free list, for
/// the close to state it: a crash in between loses those pages until somebody looks.
struct LostPages {
  /// Number of the commit that was looked at.
  private(set) var commit: UInt64 = 0
  /// Below its page count.
  private(set) var extents: [Extent] = []
  /// Behind it, which any commit cuts off.
  private(set) var tail: UInt64 = 0

  init() {}

  /// Sorts what a walk through a commit found unused.
  init(_ unused: [Extent], of header: Header) {
    commit = header.commit
    for extent in unused {
      let inside = min(extent.end, max(extent.start, header.pageCount)) - extent.start
      if inside > 0 { extents.append(Extent(start: extent.start, count: inside)) }
      tail += extent.count - inside
    }
  }
}

extension ContainerFile {
  /// How many pages of the backing file `verify` found that nothing uses and nothing states as free.
  public var lostPages: UInt64 { lock.withReadLock { lost.extents.pageCount + lost.tail } }

  /// Has the next commit state the lost pages as free, unless there was one since `verify`.
  ///
  /// - Throws: What preparing a write gives: `.io`, `.damaged`, `.keyMissing`, `.crypto`.
  public func reclaim() throws(ContainerError) {
    try commitLock.withWriteLock { () throws(ContainerError) in
      try lock.withWriteLock { () throws(ContainerError) in
        guard lost.commit == history.commit else { return }
        try prepareToWrite()
        allocator.reclaim(lost.extents)
        lost = LostPages()
        isChanged = true
      }
    }
  }
}
