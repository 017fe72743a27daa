/// A set of page numbers as a bitmap of 4,096-page chunks, of which only those in use exist.
struct PageSet {
  private static let chunkShift: UInt64 = 12
  private static let chunkWords = 64
  private var chunks: [UInt64: [UInt64]] = [:]

  func contains(_ page: UInt64) -> Bool {
    guard let chunk = chunks[page >> PageSet.chunkShift] else { return false }
    let bit = Int(page & (1 << PageSet.chunkShift - 1))
    return chunk[bit >> 6] & (1 << UInt64(bit & 63)) != 0
  }

  mutating func insert(_ extent: Extent) { update(extent) { $0 |= $1 } }

  mutating func remove(_ extent: Extent) { update(extent) { $0 &= ~$1 } }

  mutating func formUnion(_ other: PageSet) {
    for (index, words) in other.chunks {
      chunks[index] = chunks[index].map { mine in zip(mine, words).map { $0 | $1 } } ?? words
    }
  }

  mutating func removeAll() { chunks.removeAll() }

  /// Whether any page of the extent is in the set.
  func intersects(_ extent: Extent) -> Bool {
    var page = extent.start
    while page < extent.end {
      if chunks[page >> PageSet.chunkShift] == nil {
        page = ((page >> PageSet.chunkShift) + 1) << PageSet.chunkShift
      } else {
        if contains(page) { return true }
        page += 1
      }
    }
    return false
  }

  /// The pages as extents in address order.
  var extents: [Extent] {
    var result: [Extent] = []
    for index in chunks.keys.sorted() {
      guard let words = chunks[index] else { continue }
      for (position, word) in words.enumerated() where word != 0 {
        for bit in 0..<64 where word & (1 << UInt64(bit)) != 0 {
          let page = index << PageSet.chunkShift + UInt64(position * 64 + bit)
          result.appendJoining(Extent(start: page, count: 1))
        }
      }
    }
    return result
  }

  /// The pages of a range that are not in the set, as extents in address order.
  func gaps(in range: Extent) -> [Extent] {
    var result: [Extent] = []
    var page = range.start
    func skip(to end: UInt64) {
      if page < end { result.appendJoining(Extent(start: page, count: end - page)) }
      page = max(page, end)
    }
    for index in chunks.keys.sorted() where (index + 1) << PageSet.chunkShift > page {
      guard let words = chunks[index], page < range.end else { break }
      skip(to: min(index << PageSet.chunkShift, range.end))
      let end = min((index + 1) << PageSet.chunkShift, range.end)
      while page < end {
        let bit = page & (1 << PageSet.chunkShift - 1)
        let word = words[Int(bit >> 6)]
        if bit & 63 == 0, word == .max {
          page += 64
        } else if word & (1 << (bit & 63)) != 0 {
          page += 1
        } else {
          skip(to: page + 1)
        }
      }
    }
    skip(to: range.end)
    return result
  }

  private mutating func update(_ extent: Extent, _ change: (inout UInt64, UInt64) -> Void) {
    var page = extent.start
    while page < extent.end {
      let index = page >> PageSet.chunkShift
      let chunkEnd = min((index + 1) << PageSet.chunkShift, extent.end)
      let base = index << PageSet.chunkShift
      PageSet.update(
        &chunks[index, default: [UInt64](repeating: 0, count: PageSet.chunkWords)],
        from: Int(page - base), to: Int(chunkEnd - base), change)
      page = chunkEnd
    }
  }

  private static func update(
    _ words: inout [UInt64], from first: Int, to end: Int, _ change: (inout UInt64, UInt64) -> Void
  ) {
    var bit = first
    while bit < end {
      let upper = min((bit | 63) + 1, end)
      let ones = upper - bit == 64 ? UInt64.max : (1 << UInt64(upper - bit) - 1) << UInt64(bit & 63)
      change(&words[bit >> 6], ones)
      bit = upper
    }
  }
}
