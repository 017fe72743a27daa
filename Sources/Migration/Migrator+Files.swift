import Container
import Primitives
import Synchronization
import SystemPackage
import Vault

extension Migrator {
  /// What became of a file.
  enum Step {
    case done(MigrationEvent.Outcome)
    /// It changed while it was read.
    case again
  }

  /// Takes a regular file in; called by the workers.
  func process(_ item: Item, _ buffer: TransferBuffer) {
    do throws(TransferError) {
      for _ in 0..<3 {
        if try adopt(item) { return }
        var step = Step.again
        try room.use(clearing: { removeSources(buffer, all: false) }) { () throws(TransferError) in
          step = try transfer(item, buffer)
          if options.moves, case .done = step { queueRemoval(item) }
        }
        guard case .done(let outcome) = step else { continue }
        observer.report(.finished(path: item.path, outcome, bytes: item.status.size))
        removeEnough(buffer)
        return
      }
      throw .changed
    } catch {
      report(item.path, error)
    }
  }

  func policy(of item: Item) throws(TransferError) -> ContentPolicy {
    if case .store(let policy) = options.action(path: item.path, name: item.name) {
      return policy
    }
    return try item.directory.policy(for: item.name)
  }

  /// Moves a file that is to be plain into the backing folder as it is, where that is possible. One
  /// with several names keeps its old one until the end: a second run sees what belongs together.
  func adopt(_ item: Item) throws(TransferError) -> Bool {
    guard options.moves, try policy(of: item) == .plain else { return false }
    let isLinked = item.status.links > 1
    guard try item.directory.adopt(item, keepsSource: isLinked) else { return false }
    if isLinked { removals.withLock { $0.atEnd.append(Removal(item)) } }
    observer.report(.finished(path: item.path, .adopted, bytes: item.status.size))
    return true
  }

  private func transfer(_ item: Item, _ buffer: TransferBuffer) throws(TransferError) -> Step {
    let source = try openSource(item)
    let before = try status(of: source)
    guard before.kind == .regular else { throw .occupied("it is no file any more") }
    let content = Content.outside(source)
    var isReplacing = false
    switch try judgePresent(item, content, before, buffer) {
    case .absent: break
    case .same: return .done(.present)
    case .outdated: isReplacing = true
    }
    guard try store(item, source, before, isReplacing: isReplacing, buffer) else {
      return .again
    }
    if options.verifies, !options.moves {
      guard try isStored(item, content, before, buffer) else { throw .different }
    }
    return .done(.copied)
  }

  /// Stores a file and gives it its name; no object of it stays in use.
  ///
  /// - Parameters:
  ///   - item: What to store.
  ///   - source: The open file.
  ///   - before: Its status.
  ///   - isReplacing: Whether the vault has an older file of the name.
  ///   - buffer: What to copy through.
  /// - Returns: false if it changed meanwhile.
  /// - Throws: `.outside`, `.vault`.
  private func store(
    _ item: Item, _ source: SharedFD, _ before: FileStatus, isReplacing: Bool,
    _ buffer: TransferBuffer
  ) throws(TransferError) -> Bool {
    let file = try item.directory.begin(item.name, try policy(of: item))
    do throws(TransferError) {
      try buffer.copy(.outside(source), to: file.content, size: before.size) {
        (bytes) throws(TransferError) in
        try observer.copied(item.path, bytes)
      }
      var losses: [String] = []
      let metadata = Metadata(outside: source.rawValue, before, losses: &losses)
      try file.commit(modified: before.mtime)
      guard try status(of: source).isUnchanged(since: before) else {
        file.cancel()
        return false
      }
      losses += metadata.apply(to: file.node)
      try attempting("syncing") { () throws(Errno) in
        try Sys.fsync(file.node.descriptor.rawValue)
      }
      try file.finish(replacing: isReplacing)
      reportLosses(item.path, losses)
    } catch .changed {
      file.cancel()
      return false
    } catch {
      file.cancel()
      throw error
    }
    return true
  }

  private func openSource(_ item: Item) throws(TransferError) -> SharedFD {
    do throws(Errno) {
      let flags: OpenFlags = [.readOnly, .noFollow, .nonBlocking]
      do throws(Errno) {
        return SharedFD(
          try Sys.openat(item.folder.rawValue, item.name, flags.union(.noAccessTime)))
      } catch .notPermitted {
        // Only its owner may read a file without leaving a trace.
        return SharedFD(try Sys.openat(item.folder.rawValue, item.name, flags))
      }
    } catch {
      throw .outside(error, "opening it")
    }
  }

  private func status(of file: SharedFD) throws(TransferError) -> FileStatus {
    try attempting("looking at it") { () throws(Errno) in try Sys.fstatx(file.rawValue) }
  }

  // MARK: What is there already

  private enum Present {
    case absent
    case same
    /// Older than the source, or not what it should be.
    case outdated
  }

  private func judgePresent(
    _ item: Item, _ content: Content, _ status: FileStatus, _ buffer: TransferBuffer
  ) throws(TransferError) -> Present {
    guard let present = try item.directory.find(item.name) else { return .absent }
    guard present.kind == .regular else {
      throw .occupied("the vault has something else of this name")
    }
    let size = present.size
    if present.modified == status.mtime, size == nil || size == status.size {
      guard options.verifies || options.moves || size == nil else { return .same }
      do throws(TransferError) {
        return try isStored(item, content, status, buffer) ? .same : .outdated
      } catch .stopped {
        throw .stopped
      } catch {
        return .outdated
      }
    }
    if present.modified < status.mtime { return .outdated }
    do throws(TransferError) {
      // A daemon that was killed while it gave the file its name may have left it with the time of then.
      if size == nil || size == status.size, try isStored(item, content, status, buffer) {
        return .outdated
      }
    } catch .stopped {
      throw .stopped
    } catch {
      // It cannot be read, so it is not the same.
    }
    throw .occupied("the vault has a newer file of this name")
  }

  /// Reads a file of the vault back, from the medium as far as the kernel allows, and compares.
  func isStored(
    _ item: Item, _ content: Content, _ status: FileStatus, _ buffer: TransferBuffer
  ) throws(TransferError) -> Bool {
    guard let (stored, descriptor) = try item.directory.content(item.name, size: status.size)
    else { return false }
    // POSIX_FADV_DONTNEED; what cannot be dropped is compared all the same.
    try? Sys.fadvise(descriptor.rawValue, offset: 0, length: 0, advice: 4)
    return try buffer.isEqual(content, stored, size: status.size) { () throws(TransferError) in
      if observer.wantsStop() { throw .stopped }
    }
  }

  // MARK: Moving

  /// Sources that may go once the vault is synced.
  struct Removals {
    var batch: [Removal] = []
    var bytes: UInt64 = 0
    /// What has several names: gone through at the end, so that a second run still sees which belong together.
    var atEnd: [Removal] = []

    static let batchCount = 128
    static let batchBytes: UInt64 = 64 << 20
  }

  /// A source that is in the vault.
  struct Removal: Sendable {
    let item: Item
    /// nil where the directory is opened anew.
    let folder: SharedFD?

    /// For the end of the run; holds no descriptor of the directory.
    init(_ item: Item) {
      self.init(item, keepsFolder: false)
    }

    init(_ item: Item, keepsFolder: Bool) {
      folder = keepsFolder ? item.folder : nil
      self.item = Item(
        source: item.source, folder: keepsFolder ? item.folder : item.source.base,
        name: item.name, place: item.place, path: item.path, status: item.status,
        directory: item.directory)
    }
  }

  func queueRemoval(_ item: Item) {
    removals.withLock { removals in
      guard item.status.links == 1 else { return removals.atEnd.append(Removal(item)) }
      removals.batch.append(Removal(item, keepsFolder: true))
      removals.bytes += item.status.size
    }
  }

  /// Removes what waits as soon as there is enough of it for a sync.
  func removeEnough(_ buffer: @autoclosure () -> TransferBuffer) {
    let batch = removals.withLock { removals -> [Removal] in
      guard
        removals.batch.count >= Removals.batchCount || removals.bytes >= Removals.batchBytes
      else { return [] }
      defer { (removals.batch, removals.bytes) = ([], 0) }
      return removals.batch
    }
    if !batch.isEmpty { remove(batch, buffer()) }
  }

  /// Removes what waits. Unless the run is complete, what belongs together waits for the next.
  func removeSources(_ buffer: TransferBuffer, all: Bool) {
    let waiting = removals.withLock { removals -> [Removal] in
      defer {
        (removals.batch, removals.bytes) = ([], 0)
        if all { removals.atEnd = [] }
      }
      return removals.batch + (all ? removals.atEnd : [])
    }
    remove(waiting, buffer)
  }

  private func remove(_ batch: [Removal], _ buffer: TransferBuffer) {
    guard !batch.isEmpty else { return }
    do throws(TransferError) {
      try sync(batch)
    } catch {
      return report(batch[0].item.path, error)
    }
    for removal in batch {
      do throws(TransferError) {
        try remove(removal, buffer)
      } catch {
        report(removal.item.path, error)
      }
    }
  }

  private func sync(_ batch: [Removal]) throws(TransferError) {
    var synced: Set<ObjectIdentifier> = []
    for directory in batch.map(\.item.directory) {
      if directory.syncsEverything { return try directory.sync() }
      if synced.insert(ObjectIdentifier(directory)).inserted { try directory.sync() }
    }
  }

  private func remove(_ removal: Removal, _ buffer: TransferBuffer) throws(TransferError) {
    let item = removal.item
    let folder: SharedFD
    if let kept = removal.folder {
      folder = kept
    } else {
      folder = try openFolder(item.source.base, item.place)
    }
    var expected = item.status
    if item.status.kind == .regular {
      let opened = Item(
        source: item.source, folder: folder, name: item.name, place: item.place, path: item.path,
        status: item.status, directory: item.directory)
      let file = try openSource(opened)
      expected = try status(of: file)
      guard expected.mtime == item.status.mtime, expected.size == item.status.size,
        try isStored(opened, .outside(file), expected, buffer)
      else { throw .different }
    }
    // Whoever changed it, or put another file in its place, meanwhile keeps what he has.
    let now = try attempting("looking at it") { () throws(Errno) in
      try Sys.statx(folder.rawValue, item.name)
    }
    if item.status.links > 1, now.kind != .regular {
      // Taking one of its names away counts as a change of the inode.
      expected.ctime = now.ctime
    }
    guard now.isUnchanged(since: expected) else { throw .changed }
    try attempting("removing the source") { () throws(Errno) in
      try Sys.unlinkat(folder.rawValue, item.name)
    }
  }
}
