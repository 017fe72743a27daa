import Container
import Primitives
import Synchronization
import SystemPackage
public import Vault

/// Moves everything of a vault into its new one while its master key is replaced.
///
/// An entry leaves the old vault only when the new one has it whole, synced and read back, so a run that is
/// killed can be started again; at any moment each entry is whole in one of the two.
public final class Rekeyer: Sendable, TransferRun {
  let old: Vault
  let new: Vault
  let observer: MigrationObserver
  let room = Room()
  let failures = Failures()
  private let queue = JobQueue<RekeyItem>(capacity: 64)
  let state = Mutex(State())

  /// An entry, and where it goes.
  struct RekeyItem: Sendable {
    let directory: VaultDirectory
    let entry: VaultEntry
    let target: VaultDirectory
    let path: [UInt8]
  }

  struct State {
    /// Directories in the order in which they are finished: inner ones first.
    var folders: [Folder] = []
    /// What the new vault has, until the medium has it too.
    var moved: [RekeyItem] = []
    var movedBytes: UInt64 = 0
    /// Containers and special files with several names, of which not all were found yet.
    var links: [InodeIdentity: Links] = [:]
  }

  struct Folder: Sendable {
    let directory: VaultDirectory
    /// nil for the root.
    let parent: VaultDirectory?
    let name: [UInt8]
    let target: VaultDirectory
    let path: [UInt8]
    let metadata: Metadata
  }

  struct Links {
    var directory: VaultDirectory
    var name: [UInt8]
    var items: [RekeyItem]
  }

  /// Prepares to move; nothing is done yet.
  ///
  /// - Parameters:
  ///   - rekeying: The two vaults.
  ///   - observer: Hears of what is done.
  public init(_ rekeying: Rekeying, observer: MigrationObserver) {
    old = rekeying.old
    new = rekeying.new
    self.observer = observer
  }

  /// Moves what is left of the old vault.
  ///
  /// - Returns: How it ended. After `.complete` something is left only if a problem was reported.
  /// - Throws: `.outside` if it could not begin.
  public func run() throws(TransferError) -> MigrationEnd {
    let workers = try queue.startWorkers { [self] in process($0, $1) }
    enter(old.root, new.root, nil, [], path: [])
    queue.close()
    for worker in workers { worker.join() }
    let buffer = TransferBuffer()
    removeMoved(buffer, all: true)
    if !isStopping {
      removeLinks(buffer)
      finishFolders()
    }
    return end
  }

  // MARK: Walking

  private func enter(
    _ directory: VaultDirectory, _ target: VaultDirectory, _ parent: VaultDirectory?,
    _ name: [UInt8], path: [UInt8]
  ) {
    do throws(TransferError) {
      // Nobody else writes to either vault, so these are of an earlier run.
      try inVault { () throws(VaultError) in
        try directory.removeLeftovers()
        try target.removeLeftovers()
        try target.takePolicy(of: directory)
      }
      let descriptor = try inVault { () throws(VaultError) in try directory.descriptor() }
      let status = try attempting("looking at a directory") { () throws(Errno) in
        try Sys.fstatx(descriptor.rawValue)
      }
      var losses: [String] = []
      let attributes = try inVault { () throws(VaultError) in try directory.attributes() }
      var metadata = Metadata(attributes, status, losses: &losses)
      reportLosses(path, losses)
      FolderState.keep(&metadata.status, in: try node(of: target))
      // Its owner may have taken from himself what moving entries needs.
      if status.mode & 0o700 != 0o700 {
        try? Sys.chmodPath(descriptor.rawValue, mode: status.mode & 0o7777 | 0o700)
      }
      for item in try inVault({ () throws(VaultError) in try directory.list() }) {
        if isStopping { break }
        take(item.name, directory, target, path: joined(path, item.name))
      }
      let folder = Folder(
        directory: directory, parent: parent, name: name, target: target, path: path,
        metadata: metadata)
      state.withLock { $0.folders.append(folder) }
      for done in [directory, target] { done.forgetNames() }
    } catch {
      report(path, error)
    }
  }

  private func take(
    _ name: [UInt8], _ directory: VaultDirectory, _ target: VaultDirectory, path: [UInt8]
  ) {
    do throws(TransferError) {
      let entry = try inVault { () throws(VaultError) in try directory.lookup(name) }
      guard let entry else { return }
      let item = RekeyItem(directory: directory, entry: entry, target: target, path: path)
      switch entry.mode {
      case .directory: try takeFolder(item)
      case .container where entry.status.links > 1:
        try takeLinked(item) { (buffer) throws(TransferError) in
          try inRoom(buffer) { () throws(TransferError) in try store(item, buffer) }
        }
      case .container: queue.add(item)
      case .plain: try adopt(item)
      case .symbolicLink, .longLink: try takeLink(item)
      case .special: try takeSpecial(item)
      }
    } catch {
      report(path, error)
    }
  }

  private func takeFolder(_ item: RekeyItem) throws(TransferError) {
    let (target, name) = (item.target, item.entry.name)
    let (inner, outer) = try inVault { () throws(VaultError) in
      let inner = try item.directory.openDirectory(item.entry)
      guard let present = try target.lookup(name) else {
        return (inner, try target.makeDirectory(name, mode: 0o700, owner: nil).directory)
      }
      return (inner, try target.openDirectory(present))
    }
    enter(inner, outer, item.directory, name, path: item.path)
  }

  private func node(of directory: VaultDirectory) throws(TransferError) -> ReceivedNode {
    try VaultReceiver(new, directory).itself()
  }

  // MARK: What needs no copy of its content

  /// What is stored without a key changes its place: in one step, so there is never more than one of it.
  private func adopt(_ item: RekeyItem) throws(TransferError) {
    let entry = item.entry
    try inVault { () throws(VaultError) in
      let folder = try item.directory.descriptor()
      _ = try item.target.adopt(
        from: folder.rawValue, entry.backingName, as: entry.name, entry.mode)
    }
    observer.report(.finished(path: item.path, .adopted, bytes: entry.status.size))
  }

  private func takeSpecial(_ item: RekeyItem) throws(TransferError) {
    let (entry, target) = (item.entry, item.target)
    var losses: [String] = []
    let metadata = try metadata(of: item, &losses)
    if losses.isEmpty, item.directory.isNative || metadata.hasOnlyLists { return try adopt(item) }
    func make() throws(TransferError) {
      let made = try inVault { () throws(VaultError) -> VaultEntry in
        if let present = try target.lookup(entry.name) { return present }
        return try target.makeNode(
          entry.name, mode: entry.status.mode, device: entry.status.rdev, owner: nil)
      }
      try finishNode(item, made, metadata, losses)
    }
    if entry.status.links > 1 {
      return try takeLinked(item) { (_) throws(TransferError) in try make() }
    }
    try make()
    noteMoved([item])
    removeMoved(TransferBuffer(), all: false)
  }

  private func takeLink(_ item: RekeyItem) throws(TransferError) {
    let (entry, target) = (item.entry, item.target)
    var losses: [String] = []
    var metadata = try metadata(of: item, &losses)
    metadata.status.mode = UInt32(FileKind.symbolicLink.rawValue) << 12 | 0o777
    let made = try inVault { () throws(VaultError) -> VaultEntry in
      let text = try item.directory.readLink(entry)
      guard let present = try target.lookup(entry.name) else {
        return try target.makeSymbolicLink(entry.name, target: text, owner: nil)
      }
      guard try target.readLink(present) == text else {
        throw .system(.fileExists, "another link of this name")
      }
      return present
    }
    try finishNode(item, made, metadata, losses)
    noteMoved([item])
    removeMoved(TransferBuffer(), all: false)
  }

  func finishNode(
    _ item: RekeyItem, _ made: VaultEntry, _ metadata: Metadata, _ losses: [String],
    _ outcome: MigrationEvent.Outcome = .copied, size: UInt64 = 0
  ) throws(TransferError) {
    let node = try inVault { () throws(VaultError) in try item.target.openNode(made) }
    let attributes = try inVault { () throws(VaultError) in try item.target.attributes(of: made) }
    reportLosses(item.path, losses + metadata.apply(to: node.rawValue, .vault(attributes)))
    observer.report(.finished(path: item.path, outcome, bytes: size))
  }

  func metadata(
    of item: RekeyItem, _ losses: inout [String]
  ) throws(TransferError) -> Metadata {
    let attributes = try inVault { () throws(VaultError) in
      try item.directory.attributes(of: item.entry)
    }
    return Metadata(attributes, item.entry.status, losses: &losses)
  }

  // MARK: The end

  private func finishFolders() {
    for folder in state.withLock({ $0.folders }) {
      do throws(TransferError) {
        try finish(folder)
      } catch {
        report(folder.path, error)
      }
    }
  }

  private func finish(_ folder: Folder) throws(TransferError) {
    let (directory, target) = (folder.directory, folder.target)
    guard try inVault({ () throws(VaultError) in try directory.isEmpty() }) else {
      // What was left has been told.
      if failures.haveOccurred { return }
      throw .occupied("it still holds something; 'scrim check' tells what")
    }
    let descriptor = try inVault { () throws(VaultError) in try directory.descriptor() }
    // A run that is killed from here on reads them again.
    try? Sys.chmodPath(descriptor.rawValue, mode: folder.metadata.status.mode & 0o7777)
    try? folder.metadata.setTimes(descriptor.rawValue)
    let stored = try node(of: target)
    FolderState.forget(stored)
    reportLosses(folder.path, folder.metadata.apply(to: stored))
    guard let parent = folder.parent else { return }
    try inVault { () throws(VaultError) in try parent.removeDirectory(folder.name) }
  }
}
