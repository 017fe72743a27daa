import Container
import Primitives
import Synchronization
import SystemPackage
import Vault

extension Rekeyer {
  // MARK: Containers

  func process(_ item: RekeyItem, _ buffer: TransferBuffer) {
    do throws(TransferError) {
      try inRoom(buffer) { () throws(TransferError) in
        try store(item, buffer)
        noteMoved([item])
      }
      removeMoved(buffer, all: false)
    } catch {
      report(item.path, error)
    }
  }

  func inRoom(
    _ buffer: TransferBuffer, _ body: () throws(TransferError) -> Void
  ) throws(TransferError) {
    try room.use(clearing: { removeMoved(buffer, all: true) }, body)
  }

  /// By the walking thread, so that no two threads store the same file. All its names go when all were found.
  func takeLinked(
    _ item: RekeyItem, storing: (TransferBuffer) throws(TransferError) -> Void
  ) throws(TransferError) {
    let buffer = TransferBuffer()
    let identity = item.entry.identity
    var links = state.withLock { $0.links[identity] }
    if links == nil {
      try storing(buffer)
      links = Links(directory: item.target, name: item.entry.name, items: [])
    } else if let links {
      try inVault { () throws(VaultError) in
        guard let first = try links.directory.lookup(links.name) else { return }
        guard let present = try item.target.lookup(item.entry.name) else {
          _ = try links.directory.linkInAnyMode(first, to: item.target, as: item.entry.name)
          return
        }
        guard present.identity == first.identity else {
          throw .system(.fileExists, "another file of this name")
        }
      }
      observer.report(.finished(path: item.path, .linked, bytes: 0))
    }
    guard var links else { return }
    links.items.append(item)
    let isComplete = links.items.count >= Int(clamping: item.entry.status.links)
    state.withLock { $0.links[identity] = isComplete ? nil : links }
    guard isComplete else { return }
    noteMoved(links.items)
    removeMoved(buffer, all: false)
  }

  /// Stores a file with the new key and gives it its name; no object of it stays in use.
  func store(_ item: RekeyItem, _ buffer: TransferBuffer) throws(TransferError) {
    let (entry, target) = (item.entry, item.target)
    let container = try inVault { () throws(VaultError) in
      try item.directory.openContainer(entry)
    }
    let size = container.file.size
    if let present = try inVault({ () throws(VaultError) in try target.lookup(entry.name) }) {
      // Of a run that was cut short, perhaps when another name had just changed its time. Its content is compared
      // before the old one goes.
      var losses: [String] = []
      let metadata = try metadata(of: item, &losses)
      return try finishNode(item, present, metadata, losses, .present, size: size)
    }
    let file = try inVault { () throws(VaultError) in
      try target.beginFile(entry.name, policy: container.file.policy)
    }
    do throws(TransferError) {
      guard let stored = file.container else { throw .different }
      try buffer.copy(.container(container), to: .container(stored), size: size) {
        (bytes) throws(TransferError) in
        try observer.copied(item.path, bytes)
      }
      var losses: [String] = []
      let metadata = try metadata(of: item, &losses)
      try inVault { () throws(VaultError) in
        _ = try stored.commit(modificationTime: entry.status.mtime)
      }
      losses += metadata.apply(to: file.descriptor.rawValue, .vault(file.attributes))
      try attempting("syncing") { () throws(Errno) in try Sys.fsync(file.descriptor.rawValue) }
      _ = try inVault { () throws(VaultError) in try target.finishFile(file) }
      reportLosses(item.path, losses)
    } catch {
      target.cancelFile(file)
      throw error
    }
    observer.report(.finished(path: item.path, .copied, bytes: size))
  }

  // MARK: What is in the new vault leaves the old one

  func noteMoved(_ items: [RekeyItem]) {
    state.withLock { state in
      state.moved += items
      state.movedBytes += items.reduce(0) { $0 + $1.entry.status.size }
    }
  }

  /// Removes what was moved, or leaves it until there is enough of it for a sync.
  func removeMoved(_ buffer: @autoclosure () -> TransferBuffer, all: Bool) {
    let batch = state.withLock { state -> [RekeyItem] in
      let isEnough =
        state.moved.count >= Migrator.Removals.batchCount
        || state.movedBytes >= Migrator.Removals.batchBytes
      guard all || isEnough else { return [] }
      defer { (state.moved, state.movedBytes) = ([], 0) }
      return state.moved
    }
    if !batch.isEmpty { remove(batch, buffer()) }
  }

  /// Removes files of which names were not found: in directories that cannot be read, or outside the vault.
  func removeLinks(_ buffer: TransferBuffer) {
    let items = state.withLock { state in
      defer { state.links = [:] }
      return state.links.values.flatMap(\.items)
    }
    for item in items {
      observer.report(
        .problem(path: item.path, .notKept("it has other names, which could not be moved")))
    }
    remove(items, buffer)
  }

  private func remove(_ batch: [RekeyItem], _ buffer: TransferBuffer) {
    guard !batch.isEmpty else { return }
    do throws(TransferError) {
      try inVault { () throws(VaultError) in try new.syncFilesystem() }
    } catch {
      return report(batch[0].path, error)
    }
    for item in batch {
      do throws(TransferError) {
        if item.entry.mode == .container {
          guard try isStored(item, buffer) else { throw .different }
        }
        _ = try inVault { () throws(VaultError) in
          try item.directory.removeFile(item.entry.name)
        }
      } catch {
        report(item.path, error)
      }
    }
  }

  /// Reads a file of the new vault back, from the medium as far as the kernel allows, and compares.
  private func isStored(
    _ item: RekeyItem, _ buffer: TransferBuffer
  ) throws(TransferError) -> Bool {
    let (left, right) = try inVault { () throws(VaultError) -> (VaultContainer, VaultContainer?) in
      let left = try item.directory.openContainer(item.entry)
      guard let entry = try item.target.lookup(item.entry.name), entry.mode == .container,
        entry.status.mtime == item.entry.status.mtime
      else { return (left, nil) }
      return (left, try item.target.openContainer(entry))
    }
    guard let right, left.file.size == right.file.size, left.file.policy == right.file.policy
    else { return false }
    // POSIX_FADV_DONTNEED; what cannot be dropped is compared all the same.
    try? Sys.fadvise(right.descriptor.rawValue, offset: 0, length: 0, advice: 4)
    return try buffer.isEqual(.container(left), .container(right), size: left.file.size) {
      () throws(TransferError) in
      if observer.wantsStop() { throw .stopped }
    }
  }
}
