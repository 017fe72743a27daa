/// Extents in headers and free-list pages, docs/format.md §8.2 and §8.4.
enum FreeList {
  /// One free-list page.
  struct Page {
    var next: Reference
    /// 0 if the extents are free.
    var heldCommit: UInt64
    var extents: [Extent]
  }

  /// How extents are spread over a header and free-list pages.
  struct Layout {
    var headerFree: [Extent] = []
    var headerHeld: [Extent] = []
    var pages: [Page] = []
  }

  /// Free-list pages by what they hold.
  struct PageCounts {
    var free: Int
    var held: Int

    var total: Int { free + held }
  }

  /// Pages that a free list takes which may still grow by one free extent.
  static func pagesNeeded(free: Int, held: Int, room: Int) -> PageCounts {
    let largest = free + (free > 0 ? 1 : 0)
    let inHeader = min(largest, room)
    return PageCounts(
      free: pages(for: largest - inHeader), held: pages(for: held - min(held, room - inHeader)))
  }

  private static func pages(for extents: Int) -> Int {
    (extents + Format.listExtentLimit - 1) / Format.listExtentLimit
  }

  /// Spreads extents over a header with room for some, and over exactly as many pages as
  /// `pagesNeeded` gave: each gets at least one extent.
  static func layout(
    free: [Extent], held: [Extent], heldCommit: UInt64, room: Int, pages: PageCounts
  ) -> Layout {
    let freeInHeader = min(room, free.count - pages.free)
    let heldInHeader = min(room - freeInHeader, held.count - pages.held)
    var layout = Layout()
    layout.headerFree = Array(free.prefix(freeInHeader))
    layout.headerHeld = Array(held.prefix(heldInHeader))
    let lists =
      spread(Array(free.dropFirst(freeInHeader)), over: pages.free).map { ($0, UInt64(0)) }
      + spread(Array(held.dropFirst(heldInHeader)), over: pages.held).map { ($0, heldCommit) }
    layout.pages = lists.map { Page(next: .hole, heldCommit: $0.1, extents: $0.0) }
    return layout
  }

  private static func spread(_ extents: [Extent], over pages: Int) -> [[Extent]] {
    var rest = extents[...]
    return (0..<pages).map { index in
      let later = pages - index - 1
      let taken = rest.prefix(min(Format.listExtentLimit, max(1, rest.count - later)))
      rest = rest.dropFirst(taken.count)
      return Array(taken)
    }
  }

  /// Extents of at most as many pages as the format can state for one.
  static func statable(_ extents: [Extent]) -> [Extent] {
    let limit = UInt64(UInt32.max)
    guard extents.contains(where: { $0.count > limit }) else { return extents }
    return extents.flatMap { extent in
      stride(from: extent.start, to: extent.end, by: Int(limit)).map {
        Extent(start: $0, count: min(limit, extent.end - $0))
      }
    }
  }

  static func encode(_ extent: Extent, into bytes: UnsafeMutableRawPointer) {
    bytes.store(UInt32(truncatingIfNeeded: extent.start), at: 0)
    bytes.store(UInt16(truncatingIfNeeded: extent.start >> 32), at: 4)
    bytes.store(UInt32(truncatingIfNeeded: extent.count), at: 6)
  }

  /// nil if the extent is empty or reaches outside the pages that may be used.
  static func decode(_ bytes: UnsafeRawPointer, pageCount: UInt64) -> Extent? {
    let start =
      UInt64(bytes.integer(at: 0, as: UInt32.self))
      | UInt64(bytes.integer(at: 4, as: UInt16.self)) << 32
    let extent = Extent(start: start, count: UInt64(bytes.integer(at: 6, as: UInt32.self)))
    guard start >= UInt64(Format.slotCount), extent.count >= 1, extent.end <= pageCount else {
      return nil
    }
    return extent
  }

  static func encode(_ page: Page, into bytes: UnsafeMutableRawPointer) {
    bytes.zero(from: 0, count: Format.pageSize)
    bytes.storeBytes(of: page.next, as: Reference.self)
    bytes.store(UInt16(page.extents.count), at: 40)
    bytes.store(page.heldCommit, at: 48)
    for (index, extent) in page.extents.enumerated() {
      encode(extent, into: bytes + Format.listExtentOffset + Format.extentCount * index)
    }
  }

  /// nil if a field breaks the format's rules.
  static func decodePage(_ bytes: UnsafeRawPointer, limits: ReferenceLimits) -> Page? {
    let count = Int(bytes.integer(at: 40, as: UInt16.self))
    var page = Page(
      next: bytes.loadUnaligned(as: Reference.self), heldCommit: bytes.integer(at: 48), extents: [])
    guard (1...Format.listExtentLimit).contains(count), page.next.isValid(limits, inner: true),
      bytes.integer(at: 42, as: UInt16.self) == 0, bytes.integer(at: 44, as: UInt32.self) == 0
    else { return nil }
    for index in 0..<count {
      let at = bytes + Format.listExtentOffset + Format.extentCount * index
      guard let extent = decode(at, pageCount: limits.pageCount) else { return nil }
      page.extents.append(extent)
    }
    let end = Format.listExtentOffset + Format.extentCount * count
    guard (bytes + end).isZero(count: Format.pageSize - end) else { return nil }
    return page
  }
}
