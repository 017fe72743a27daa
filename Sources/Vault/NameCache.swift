import Synchronization

/// Plain names and their backing names in one directory, both ways, in bounded memory.
///
/// Two generations: when the young one is full it becomes the old one, and what is used again moves
/// back. So a listing of any size neither grows the cache nor empties it of what is in use.
final class NameCache: Sendable {
  struct Key: Hashable {
    var name: [UInt8]
    var kind: EntryKind

    func hash(into hasher: inout Hasher) {
      Bytes(name).hash(into: &hasher)
    }
  }

  /// Hashed at once; an array's own way takes one byte after the other.
  private struct Bytes: Hashable {
    let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    func hash(into hasher: inout Hasher) {
      bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
  }

  private struct Generation {
    private var backing: [Key: [UInt8]] = [:]
    private var plain: [Bytes: Key] = [:]

    var count: Int { backing.count }

    func backingName(_ key: Key) -> [UInt8]? { backing[key] }

    func plainName(_ backing: [UInt8]) -> Key? { plain[Bytes(backing)] }

    mutating func insert(_ key: Key, _ name: [UInt8]) {
      backing[key] = name
      plain[Bytes(name)] = key
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
      if let name = table.young.backingName(key) { return name }
      guard let name = table.old.backingName(key) else { return nil }
      promote(key, name, &table)
      return name
    }
  }

  func plainName(_ backing: [UInt8]) -> Key? {
    table.withLock { table in
      if let key = table.young.plainName(backing) { return key }
      guard let key = table.old.plainName(backing) else { return nil }
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
    if table.young.count >= capacity {
      table.old = table.young
      table.young = Generation()
    }
    table.young.insert(key, backing)
  }
}
