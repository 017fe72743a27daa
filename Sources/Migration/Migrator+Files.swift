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
        guard case .done(let outcome) = try transfer(item, buffer) else { continue }
        observer.report(.finished(path: item.path, outcome, bytes: item.status.size))
        if options.moves { queueRemoval(item, buffer) }
        return
      }
      throw .changed
    } catch {
      report(item.path, error)
    }
  }

  func policy(of item: Item) -> ContentPolicy {
    if case .store(let policy) = options.action(path: item.path, name: item.name) {
      return policy
    }
    return item.directory.record.policy(for: item.name)
  }

  /// Moves a file that is to be plain into the backing folder as it is, where that is possible. One
  /// with several names keeps its old one until the end: a second run sees what belongs together.
  func adopt(_ item: Item) throws(TransferError) -> Bool {
    guard options.moves, policy(of: item) == .plain else { return false }
    let isLinked = item.status.links > 1
    do throws(VaultError) {
      if try item.directory.lookup(item.name) != nil { return false }
      _ = try item.directory.adopt(
        from: item.folder.rawValue, item.name, as: item.name, .plain, keepsSource: isLinked)
    } catch .system(.improperLink, _) {
      return false
    } catch .system(.notPermitted, _) where isLinked {
      // The kernel lets only its owner link a file.
      return false
    } catch {
      throw .vault(error)
    }
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
    let directory = item.directory
    let file = try inVault { () throws(VaultError) in
      try directory.beginFile(item.name, policy: policy(of: item))
    }
    do throws(TransferError) {
      let target = file.container.map { Content.container($0) } ?? .plain(file.descriptor)
      try buffer.copy(.outside(source), to: target, size: before.size) {
        (bytes) throws(TransferError) in
        try observer.copied(item.path, bytes)
      }
      var losses: [String] = []
      let metadata = Metadata(outside: source.rawValue, before, losses: &losses)
      try inVault { () throws(VaultError) in
        _ = try file.container?.commit(modificationTime: before.mtime)
      }
      guard try status(of: source).isUnchanged(since: before) else {
        directory.cancelFile(file)
        return false
      }
      losses += metadata.apply(to: file.descriptor.rawValue, .vault(file.attributes))
      try attempting("syncing") { () throws(Errno) in try Sys.fsync(file.descriptor.rawValue) }
      _ = try inVault { () throws(VaultError) in
        if isReplacing { try directory.removeFile(item.name) }
        return try directory.finishFile(file)
      }
      reportLosses(item.path, losses)
    } catch .changed {
      directory.cancelFile(file)
      return false
    } catch {
      directory.cancelFile(file)
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
    let directory = item.directory
    let entry = try inVault { () throws(VaultError) in try directory.lookup(item.name) }
    guard let entry else { return .absent }
    guard entry.mode == .plain || entry.mode == .container else {
      throw .occupied("the vault has something else of this name")
    }
    let size = try? directory.plainSize(entry)
    if entry.status.mtime == status.mtime, size == nil || size == status.size {
      guard options.verifies || options.moves || size == nil else { return .same }
      do throws(TransferError) {
        return try isStored(item, content, status, buffer) ? .same : .outdated
      } catch .stopped {
        throw .stopped
      } catch {
        return .outdated
      }
    }
    if entry.status.mtime < status.mtime { return .outdated }
    throw .occupied("the vault has a newer file of this name")
  }

  /// Reads a file of the vault back, from the medium as far as the kernel allows, and compares.
  func isStored(
    _ item: Item, _ content: Content, _ status: FileStatus, _ buffer: TransferBuffer
  ) throws(TransferError) -> Bool {
    let directory = item.directory
    guard let entry = try inVault({ () throws(VaultError) in try directory.lookup(item.name) })
    else { return false }
    let stored: Content
    let descriptor: SharedFD
    switch entry.mode {
    case .container:
      let container = try inVault { () throws(VaultError) in try directory.openContainer(entry) }
      guard container.file.size == status.size else { return false }
      (stored, descriptor) = (.container(container), container.descriptor)
    case .plain:
      guard entry.status.size == status.size else { return false }
      descriptor = try inVault { () throws(VaultError) in
        try directory.openPlain(entry, .readOnly)
      }
      stored = .plain(descriptor)
    case .directory, .symbolicLink, .longLink, .special: return false
    }
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
    /// Files with several names and what is no file: gone through at the end, so that a second run
    /// still sees which names belong together.
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

  private func queueRemoval(_ item: Item, _ buffer: TransferBuffer) {
    let isLinked = item.status.links > 1
    let batch = removals.withLock { removals -> [Removal] in
      guard !isLinked else {
        removals.atEnd.append(Removal(item))
        return []
      }
      removals.batch.append(Removal(item, keepsFolder: true))
      removals.bytes += item.status.size
      guard
        removals.batch.count >= Removals.batchCount || removals.bytes >= Removals.batchBytes
      else { return [] }
      defer { (removals.batch, removals.bytes) = ([], 0) }
      return removals.batch
    }
    remove(batch, buffer)
  }

  /// Removes what waits. Unless the run is complete, what belongs together waits for the next.
  func removeSources(_ buffer: TransferBuffer, all: Bool) {
    let waiting = removals.withLock { removals -> [Removal] in
      defer { removals = Removals() }
      return removals.batch + (all ? removals.atEnd : [])
    }
    remove(waiting, buffer)
  }

  private func remove(_ batch: [Removal], _ buffer: TransferBuffer) {
    guard !batch.isEmpty else { return }
    do throws(TransferError) {
      try inVault { () throws(VaultError) in try vault.syncFilesystem() }
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
    if now.links > 1, now.kind != .regular {
      // Taking one of its names away counts as a change of the inode.
      expected.ctime = now.ctime
    }
    guard now.isUnchanged(since: expected) else { throw .changed }
    try attempting("removing the source") { () throws(Errno) in
      try Sys.unlinkat(folder.rawValue, item.name)
    }
  }
}
