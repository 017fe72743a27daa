import Synchronization
import Vault

/// The directories that are open now, a bounded number of the most recently used ones.
///
/// An open directory owns a descriptor; everything else about a directory is in its inode, which can
/// lead to it again through its parents.
final class DirectoryCache: Sendable {
  private final class Place {
    let directory: VaultDirectory
    var lastUse: UInt64

    init(_ directory: VaultDirectory, lastUse: UInt64) {
      self.directory = directory
      self.lastUse = lastUse
    }
  }

  private struct Contents {
    var places: [UInt64: Place] = [:]
    var clock: UInt64 = 0
  }

  private let capacity: Int
  private let contents = Mutex(Contents())

  /// `capacity`: directories to keep open, at least 8.
  init(capacity: Int) { self.capacity = max(capacity, 8) }

  /// Directories open now.
  var count: Int { contents.withLock { $0.places.count } }

  /// The open directory of an inode.
  func find(_ nodeid: UInt64) -> VaultDirectory? {
    contents.withLock { contents in
      contents.clock += 1
      guard let place = contents.places[nodeid] else { return nil }
      place.lastUse = contents.clock
      return place.directory
    }
  }

  /// Keeps a directory open until others were used more.
  ///
  /// - Returns: the directory to use, which is an earlier one if another thread was faster.
  func insert(_ nodeid: UInt64, _ directory: VaultDirectory) -> VaultDirectory {
    // Evicted directories close their descriptors here, after the lock.
    var evicted: [VaultDirectory] = []
    let kept = contents.withLock { contents -> VaultDirectory in
      contents.clock += 1
      if let place = contents.places[nodeid] { return place.directory }
      if contents.places.count >= capacity {
        evicted = Self.evict(&contents, keep: capacity * 3 / 4)
      }
      contents.places[nodeid] = Place(directory, lastUse: contents.clock)
      return directory
    }
    withExtendedLifetime(evicted) {}
    return kept
  }

  /// Stops keeping a directory open: it was removed, forgotten, or its record changed.
  func remove(_ nodeid: UInt64) {
    let removed = contents.withLock { $0.places.removeValue(forKey: nodeid)?.directory }
    withExtendedLifetime(removed) {}
  }

  /// Closes everything.
  func removeAll() {
    let removed = contents.withLock { contents in
      let directories = contents.places.values.map(\.directory)
      contents.places = [:]
      return directories
    }
    withExtendedLifetime(removed) {}
  }

  /// Takes out the longest unused in one go, so that the search for them is rare.
  private static func evict(_ contents: inout Contents, keep: Int) -> [VaultDirectory] {
    let uses = contents.places.values.map(\.lastUse).sorted()
    let threshold = uses[uses.count - keep]
    let old = contents.places.filter { $0.value.lastUse < threshold }
    for nodeid in old.keys { contents.places[nodeid] = nil }
    return old.values.map(\.directory)
  }
}
