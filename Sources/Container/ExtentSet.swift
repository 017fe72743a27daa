/// Free pages in address order, for allocation. Pages are added in batches.
struct ExtentSet {
  /// Sorted, disjoint and not adjacent, but for extents of no pages that allocation leaves.
  private var extents: [Extent] = []
  /// Where the next search begins.
  private var cursor = 0
  /// No extent has more pages.
  private var largest: UInt64 = .max
  /// Pages in all extents.
  private(set) var pageCount: UInt64 = 0

  init() {}

  init(_ unsorted: [Extent]) {
    extents = ExtentSet.merged(unsorted)
    pageCount = extents.pageCount
  }

  /// The extents in address order.
  var all: [Extent] { extents.filter { $0.count > 0 } }

  /// Upper bound of how many extents there are.
  var extentLimit: Int { extents.count }

  /// Up to `limit` of the extents.
  func some(_ limit: Int) -> [Extent] {
    var found: [Extent] = []
    for step in 0..<extents.count where found.count < limit {
      let extent = extents[(cursor + step) % extents.count]
      if extent.count > 0 { found.append(extent) }
    }
    return found
  }

  /// Sorts extents, drops empty ones and joins adjacent ones.
  static func merged(_ unsorted: [Extent]) -> [Extent] {
    var sorted = unsorted.filter { $0.count > 0 }
    sorted.sort { $0.start < $1.start }
    var kept = 0
    for extent in sorted {
      if kept > 0, sorted[kept - 1].end == extent.start {
        sorted[kept - 1].count += extent.count
      } else {
        sorted[kept] = extent
        kept += 1
      }
    }
    sorted.removeLast(sorted.count - kept)
    return sorted
  }

  /// Adds free pages; they must not be in the set.
  mutating func insert(_ pages: [Extent]) {
    if pages.isEmpty { return }
    extents = ExtentSet.merged(extents + pages)
    pageCount = extents.pageCount
    cursor = 0
    largest = .max
  }

  /// Takes `count` consecutive pages out; nil if no extent has as many.
  mutating func take(exactly count: UInt64) -> Extent? {
    guard count <= largest, count <= pageCount else { return nil }
    var found: UInt64 = 0
    for step in 0..<extents.count {
      var index = cursor + step
      if index >= extents.count { index -= extents.count }
      let available = extents[index].count
      if available >= count { return take(count, at: index) }
      found = max(found, available)
    }
    largest = found
    return nil
  }

  /// Takes up to `count` consecutive pages out; nil if the set is empty.
  mutating func take(atMost count: UInt64) -> Extent? {
    if pageCount == 0 { return nil }
    if let extent = take(exactly: count) { return extent }
    // `largest` is exact after a search that found nothing; pieces are taken in address order.
    for step in 0..<extents.count {
      var index = cursor + step
      if index >= extents.count { index -= extents.count }
      let available = extents[index].count
      if available > 0 { return take(min(available, count), at: index) }
    }
    return nil
  }

  /// Takes pages from an extent that keeps at least one, so that the number of extents stays.
  mutating func takeWithoutEmptying(_ count: UInt64) -> Extent? {
    guard let index = extents.firstIndex(where: { $0.count > count }) else { return nil }
    return take(count, at: index)
  }

  private mutating func take(_ count: UInt64, at index: Int) -> Extent {
    let taken = Extent(start: extents[index].start, count: count)
    extents[index].start += count
    extents[index].count -= count
    pageCount -= count
    cursor = index
    return taken
  }
}

extension [Extent] {
  /// Adds pages at the end, as part of the last extent where they are adjacent.
  mutating func appendJoining(_ extent: Extent) {
    if let last, last.end == extent.start {
      self[count - 1].count += extent.count
    } else {
      append(extent)
    }
  }

  /// Pages in all extents.
  var pageCount: UInt64 { reduce(0) { $0 + $1.count } }
}
