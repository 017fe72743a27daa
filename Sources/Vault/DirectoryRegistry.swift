import Synchronization

/// The directories in use, one object for each, found by their IDs (format §5: an ID must not
/// appear twice).
final class DirectoryRegistry: Sendable {
  private struct Weak {
    weak var directory: VaultDirectory?
  }

  private struct Table {
    var entries: [DirectoryID: Weak] = [:]
    /// Size at which entries of directories no longer in use are dropped.
    var sweepAt = 1024
  }

  private let table = Mutex(Table())

  func find(_ id: DirectoryID) -> VaultDirectory? {
    table.withLock { $0.entries[id]?.directory }
  }

  /// Adds a directory unless one with its ID is in use; returns the one in the registry.
  func insert(_ directory: VaultDirectory, id: DirectoryID) -> VaultDirectory {
    table.withLock { table in
      if let known = table.entries[id]?.directory { return known }
      table.entries[id] = Weak(directory: directory)
      if table.entries.count >= table.sweepAt {
        table.entries = table.entries.filter { $0.value.directory != nil }
        table.sweepAt = max(1024, table.entries.count * 2)
      }
      return directory
    }
  }

  /// Takes a directory out whose place another now has.
  func remove(_ directory: VaultDirectory, id: DirectoryID) {
    table.withLock { table in
      if table.entries[id]?.directory === directory { table.entries[id] = nil }
    }
  }
}

/// Bounds how many directories keep a descriptor open: a clock over those that do.
final class DescriptorPool: Sendable {
  private struct Weak {
    weak var directory: VaultDirectory?
  }

  private struct Ring {
    var slots: [Weak] = []
    var hand = 0
  }

  private let capacity: Int
  private let ring = Mutex(Ring())

  init(capacity: Int) {
    self.capacity = max(capacity, 16)
  }

  /// Notes that a directory has opened its descriptor; another one may lose its own.
  func admit(_ directory: VaultDirectory) {
    ring.withLock { ring in
      if ring.slots.count < capacity {
        ring.slots.append(Weak(directory: directory))
        return
      }
      // Every pass clears the marks, so the second one finds a victim.
      while let other = ring.slots[ring.hand].directory, other !== directory,
        !other.releaseDescriptorIfIdle()
      {
        ring.hand = (ring.hand + 1) % ring.slots.count
      }
      ring.slots[ring.hand] = Weak(directory: directory)
      ring.hand = (ring.hand + 1) % ring.slots.count
    }
  }
}
