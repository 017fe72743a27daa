import CLinux
import Glibc
import Logging
import Primitives
import Synchronization
import SystemPackage
import Vault

/// What is to be done later, so that a power cut loses little: commits of files that stay open, syncs of
/// files that were closed. One thread does it, and sleeps while there is nothing to do.
final class Maintenance: Sendable {
  struct Linger: Sendable {
    let inode: Inode
    /// Monotonic milliseconds.
    var due: UInt64
  }

  private struct Contents {
    var watched: [Inode] = []
    var lingering: [UInt64: Linger] = [:]
    /// When files were closed that were too many to sync one by one; 0 for none.
    var overflowSince: UInt64 = 0
    /// Of these, the ones whose first commit is to be replaced once the last one is on the disk.
    var exposed: [UInt64: Inode] = [:]
    /// Whether the thread sleeps until it is woken.
    var isIdle = true

    var hasWork: Bool { !watched.isEmpty || !lingering.isEmpty || overflowSince != 0 }
  }

  /// How long changes of an open file wait for a commit, and closed files for a sync, in milliseconds.
  static let delay: UInt64 = 5000
  /// Closed files kept open for their sync; more are synced together with their whole filesystem.
  static let maximumLingering = 64

  private let contents = Mutex(Contents())
  /// What the thread sleeps on: touched only when it has to wake up, since requests should not wake it
  /// one by one.
  private let signal = Monitor(Signal())

  private struct Signal {
    var isStopping = false
    var isAwake = false
  }

  /// Notes that a file has changes to commit.
  func watch(_ inode: Inode, _ file: OpenFile) {
    if file.isWatched.load(ordering: .relaxed) { return }
    guard !file.isWatched.exchange(true, ordering: .acquiringAndReleasing) else { return }
    contents.withLock { $0.watched.append(inode) }
    wakeIfIdle()
  }

  /// Keeps a closed file open until it is synced; the inode counts as looked up meanwhile.
  ///
  /// A file that `mustRetry`, because its changes are only in memory, is never turned away. False when
  /// there are too many; then the whole filesystem will be synced, and those that are exposed opened
  /// once more.
  func linger(
    _ inode: Inode, _ table: InodeTable, mustRetry: Bool, isExposed: Bool = false
  ) -> Bool {
    let due = Clock.milliseconds() + Self.delay
    let taken = contents.withLock { contents in
      if contents.lingering[inode.nodeid] != nil { return true }
      guard mustRetry || contents.lingering.count < Self.maximumLingering else {
        if contents.overflowSince == 0 { contents.overflowSince = due - Self.delay }
        if isExposed, contents.exposed.updateValue(inode, forKey: inode.nodeid) == nil {
          table.retain(inode)
        }
        return false
      }
      table.retain(inode)
      contents.lingering[inode.nodeid] = Linger(inode: inode, due: due)
      return true
    }
    wakeIfIdle()
    return taken
  }

  /// Whether files were closed whose sync is still to come, without being known by name.
  var hasUnknownUnsynced: Bool { contents.withLock { $0.overflowSince != 0 } }

  /// Files with changes to commit. Those that still have some must be watched again.
  func takeWatched() -> [Inode] {
    contents.withLock { contents in
      let watched = contents.watched
      contents.watched = []
      return watched
    }
  }

  /// Closed files whose time has come, or all of them.
  func takeLingering(at now: UInt64, all: Bool) -> [Inode] {
    contents.withLock { contents in
      let due = contents.lingering.filter { all || $0.value.due <= now }
      for nodeid in due.keys { contents.lingering[nodeid] = nil }
      return due.values.map(\.inode)
    }
  }

  /// The exposed files, once when the whole filesystem is to be synced; else nil.
  func takeOverflow(at now: UInt64, force: Bool) -> [Inode]? {
    contents.withLock { contents in
      let since = contents.overflowSince
      guard since != 0, force || since + Self.delay <= now else { return nil }
      contents.overflowSince = 0
      defer { contents.exposed = [:] }
      return Array(contents.exposed.values)
    }
  }

  /// Ends the thread soon.
  func stop() { signal.update { $0.isStopping = true } }

  /// Waits until there is something to do, and then a little; false when it is time to end.
  func wait() -> Bool {
    let isIdle = contents.withLock { contents in
      contents.isIdle = !contents.hasWork
      return contents.isIdle
    }
    if isIdle {
      let isStopping = signal.wait { $0.isStopping ? true : $0.isAwake ? false : nil }
      if isStopping { return false }
      signal.update { $0.isAwake = false }
    }
    return signal.wait(milliseconds: 1000) { $0.isStopping ? false : nil } ?? true
  }

  private func wakeIfIdle() {
    let wasIdle = contents.withLock { contents in
      defer { contents.isIdle = false }
      return contents.isIdle
    }
    if wasIdle { signal.update { $0.isAwake = true } }
  }
}

extension FileSystem {
  /// The body of the maintenance thread.
  func maintain() {
    while maintenance.wait() {
      let now = Clock.milliseconds()
      commitWatched(olderThan: now)
      settle(at: now, all: false)
    }
  }

  /// Commits open files whose changes have waited long enough.
  private func commitWatched(olderThan now: UInt64) {
    for inode in maintenance.takeWatched() {
      guard let file = inode.file else { continue }
      // Before looking, so that a change after the look watches the file anew.
      file.isWatched.store(false, ordering: .sequentiallyConsistent)
      let since = file.dirtySince.load(ordering: .sequentiallyConsistent)
      if since == 0 { continue }
      if since + Maintenance.delay > now {
        maintenance.watch(inode, file)
        continue
      }
      do { try commit(inode, file) } catch {
        file.dirtySince.store(now, ordering: .relaxed)
        log.error("\(path(inode)): changes could not be stored yet: \(ErrnoMap.reason(error))")
      }
    }
  }

  /// Syncs closed files and closes them for good.
  private func settle(at now: UInt64, all: Bool) {
    if let exposed = maintenance.takeOverflow(at: now, force: all) {
      do { try vault.syncFilesystem() } catch {
        log.error("the vault's filesystem could not be synced: \(error)")
      }
      for inode in exposed {
        // What remains exposed is covered when it is opened next.
        try? withFile(inode, writable: true) { _ in }
        table.forget(inode.nodeid, count: 1)
      }
    }
    for inode in maintenance.takeLingering(at: now, all: all) {
      defer { table.forget(inode.nodeid, count: 1) }
      guard let file = inode.file else { continue }
      if !isOrphan(inode, file) {
        do { try settle(inode, file) } catch {
          log.error("\(path(inode)): could not be brought to the disk: \(ErrnoMap.reason(error))")
          if !all, maintenance.linger(inode, table, mustRetry: true) { continue }
          vault.noteLostChanges()
        }
      }
      closeIfUnused(inode)
    }
  }

  /// Commits a file for good and brings it to the disk.
  private func settle(_ inode: Inode, _ file: OpenFile) throws {
    try commit(inode, file)
    try sync(inode, file, dataOnly: true)
    // What a sync leaves to it.
    try commit(inode, file)
  }

  /// Commits and syncs everything, at the end of a mount.
  func settleEverything() {
    for inode in table.openInodes() {
      guard let file = inode.file, !isOrphan(inode, file) else { continue }
      do { try settle(inode, file) } catch {
        log.error("\(path(inode)): its last changes are lost: \(ErrnoMap.reason(error))")
        vault.noteLostChanges()
      }
    }
    settle(at: Clock.milliseconds(), all: true)
    directories.removeAll()
  }
}
