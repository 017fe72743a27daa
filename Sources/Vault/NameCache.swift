import Synchronization

/// Plain names and their backing names in one directory, both ways, in bounded memory.
///
/// Two generations: when the young one is full it becomes the old one, and what is used again moves
/// back. So a listing of any size neither grows the cache nor empties it of what is in use.
final class NameCache: Sendable {
  struct Key: Hashable {
    var name: [UInt8]
    var kind: EntryKind
  }

  private struct Generation {
    var backing: [Key: [UInt8]] = [:]
    var plain: [[UInt8]: Key] = [:]

    mutating func insert(_ key: Key, _ name: [UInt8]) {
      backing[key] = name
      plain[name] = key
    }
  }

  private struct Table {
    var young = Generation()
    var old = Generation()
  }

  private let capacity: Int
  private let table = Mutex(Table())

  /// - Parameter capacity: Names per generation.
  init(capacity: Int = 1024) {
    self.capacity = capacity
  }

  func backingName(_ key: Key) -> [UInt8]? {
    table.withLock { table in
      if let name = table.young.backing[key] { return name }
      guard let name = table.old.backing[key] else { return nil }
      promote(key, name, &table)
      return name
    }
  }

  func plainName(_ backing: [UInt8]) -> Key? {
    table.withLock { table in
      if let key = table.young.plain[backing] { return key }
      guard let key = table.old.plain[backing] else { return nil }
      promote(key, backing, &table)
      return key
    }
  }

  func insert(_ key: Key, _ backing: [UInt8]) {
    table.withLock { promote(key, backing, &$0) }
  }

  func removeAll() {
    table.withLock { $0 = Table() }
  }

  private func promote(_ key: Key, _ backing: [UInt8], _ table: inout Table) {
    if table.young.backing.count >= capacity {
      table.old = table.young
      table.young = Generation()
    }
    table.young.insert(key, backing)
  }
}
