import Synchronization

/// Plain names and their backing names in one directory, both ways, in bounded memory.
///
/// A name's hash gives it two places, of which it takes the one that was filled first.
final class NameCache: Sendable {
  struct Key: Equatable {
    var name: [UInt8]
    var kind: EntryKind
  }

  private struct Pair {
    let key: Key
    let backing: [UInt8]
  }

  /// Pairs found by one of their names, the later one of two places first.
  private struct Places {
    private var pairs: [Pair?] = []

    var count: Int { pairs.count }
    var all: [Pair] { pairs.compactMap { $0 } }

    init(count: Int) { pairs = Array(repeating: nil, count: count) }

    func find(_ hash: Int, _ isWanted: (Pair) -> Bool) -> Pair? {
      guard !pairs.isEmpty else { return nil }
      let place = hash & (pairs.count - 1) & ~1
      if let pair = pairs[place], isWanted(pair) { return pair }
      if let pair = pairs[place + 1], isWanted(pair) { return pair }
      return nil
    }

    func hasRoom(_ hash: Int) -> Bool {
      !pairs.isEmpty && pairs[(hash & (pairs.count - 1)) | 1] == nil
    }

    mutating func insert(_ pair: Pair, _ hash: Int, _ isSame: (Pair) -> Bool) {
      let place = hash & (pairs.count - 1) & ~1
      if let first = pairs[place], !isSame(first) { pairs[place + 1] = first }
      pairs[place] = pair
    }
  }

  private struct Table {
    var byPlain = Places(count: 0)
    var byBacking = Places(count: 0)
    /// Since it grew.
    var inserted = 0

    mutating func insert(_ pair: Pair) {
      let name = pair.key.name
      byPlain.insert(pair, NameCache.hash(name)) { $0.key == pair.key }
      byBacking.insert(pair, NameCache.hash(pair.backing)) { $0.backing == pair.backing }
      inserted += 1
    }

    mutating func growIfFull(limit: Int) {
      let count = byPlain.count
      guard inserted >= count / 2, count < limit else { return }
      grow(to: min(max(count * 2, NameCache.smallest), limit))
    }

    private mutating func grow(to count: Int) {
      let pairs = byPlain.all
      self = Table()
      byPlain = Places(count: count)
      byBacking = Places(count: count)
      for pair in pairs { insert(pair) }
      inserted = 0
    }
  }

  private static let smallest = 32
  private let capacity: Int
  private let table = Mutex(Table())

  /// - Parameter capacity: Names at most: a power of two, 2 at least.
  init(capacity: Int = 2048) {
    self.capacity = capacity
  }

  func backingName(_ key: Key) -> [UInt8]? {
    let hash = Self.hash(key.name)
    return table.withLock { $0.byPlain.find(hash) { $0.key == key }?.backing }
  }

  func plainName(_ backing: [UInt8]) -> Key? {
    let hash = Self.hash(backing)
    return table.withLock { $0.byBacking.find(hash) { $0.backing == backing }?.key }
  }

  func insert(_ key: Key, _ backing: [UInt8]) {
    table.withLock { table in
      table.growIfFull(limit: capacity)
      table.insert(Pair(key: key, backing: backing))
    }
  }

  /// Adds a name that was listed, unless another one would have to go: a long listing must not take the place of
  /// what is in use.
  func offer(_ key: Key, _ backing: [UInt8]) {
    let hash = Self.hash(backing)
    table.withLock { table in
      table.growIfFull(limit: capacity)
      if table.byBacking.hasRoom(hash) { table.insert(Pair(key: key, backing: backing)) }
    }
  }

  func removeAll() {
    table.withLock { $0 = Table() }
  }

  /// Spreads well enough for names nobody chose; a poor spread costs hits and nothing else.
  private static func hash(_ name: [UInt8]) -> Int {
    name.withUnsafeBytes { name in
      var hash = UInt64(name.count)
      func take(_ word: UInt64) {
        hash = (hash ^ word) &* 0x9E37_79B9_7F4A_7C15
        hash ^= hash >> 32
      }
      var index = 0
      while index + 8 <= name.count {
        take(name.loadUnaligned(fromByteOffset: index, as: UInt64.self))
        index += 8
      }
      while index < name.count {
        take(UInt64(name[index]))
        index += 1
      }
      return Int(truncatingIfNeeded: hash)
    }
  }
}
