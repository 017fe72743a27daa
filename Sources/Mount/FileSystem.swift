import Container
import Glibc
import Logging
import Primitives
import Synchronization
import SystemPackage
import Vault

/// How long the kernel may believe what it was told.
struct Timeouts: Sendable {
  /// Seconds for what only this mount changes.
  var exclusive: Double
  /// Seconds for what others may change: plain files, and directories with plain names and content.
  var shared: Double
  /// Seconds for a name that is not there, where only this mount makes names.
  var negative: Double
}

/// The mounted file system: inodes and what is open, over one vault.
///
/// The operations are in `FileSystem+*.swift`, one file for each family. They throw the errors of three
/// layers; `ErrnoMap` tells those apart at the very end, so none of them maps errors itself.
final class FileSystem: Sendable {
  let vault: Vault
  /// The directory that is mounted: the vault's root, or one below it.
  let root: VaultDirectory
  let owners: OwnerMap
  let table: InodeTable
  let directories: DirectoryCache
  let handles = HandleTable()
  /// The session's, which exists only once the kernel has mounted this file system.
  let registry = Mutex<BackingRegistry?>(nil)
  let counters = Counters()
  let activity = Activity()
  let integrity: IntegrityLog
  let maintenance: Maintenance
  let conversions = Conversions()
  let timeouts: Timeouts
  let isReadOnly: Bool
  /// Whether the kernel gathers writes: then it tells of the modification times it has given them.
  let gathersWrites: Bool
  /// Whether root alone may enter and nobody checks its permissions.
  let isRootsAlone: Bool
  /// Whether this process may give files to others.
  let isRoot = geteuid() == 0
  let log: Logger
  /// What the status tells about the mount, known once the kernel answered.
  let facts = Mutex(MountFacts())

  init(
    vault: Vault, root: VaultDirectory, owners: OwnerMap, timeouts: Timeouts, isReadOnly: Bool,
    gathersWrites: Bool, isRootsAlone: Bool, log: Logger
  ) throws {
    self.vault = vault
    self.root = root
    self.owners = owners
    self.timeouts = timeouts
    self.isReadOnly = isReadOnly
    self.gathersWrites = gathersWrites
    self.isRootsAlone = isRootsAlone
    self.log = log
    let descriptor = try root.descriptor()
    let status = try Sys.fstatx(descriptor.rawValue, fields: [.basic, .btime])
    table = InodeTable(root: BackingIdentity(status))
    // These own no descriptors: the vault keeps a bounded number of theirs open.
    directories = DirectoryCache(capacity: 1024)
    integrity = IntegrityLog(log)
    maintenance = Maintenance()
    note(visibilityOf: root, table.root)
  }

  /// Backing IDs of plain inodes; nil before the session exists.
  var backing: BackingRegistry? { registry.withLock { $0 } }

  /// The inode of a nodeid.
  func inode(_ nodeid: UInt64) throws -> Inode {
    guard let inode = table.inode(nodeid) else { throw MountFailure.stale }
    return inode
  }

  /// Refuses a change on a read-only mount.
  func requireWritable() throws {
    if isReadOnly { throw MountFailure.readOnly }
  }

  // MARK: From inodes to the vault

  /// How often a name that moved away meanwhile is looked for again.
  private static let attempts = 8

  /// The open directory of an inode: from the cache, or opened from its nearest open ancestor down.
  func directory(_ inode: Inode) throws -> VaultDirectory {
    if inode === table.root { return root }
    if let known = directories.find(inode.nodeid) { return known }
    guard case .directory = inode.mode else { throw MountFailure.notADirectory }
    for _ in 0..<Self.attempts {
      if let directory = try reopen(inode) { return directory }
    }
    throw MountFailure.stale
  }

  /// One attempt to walk down to `inode`; nil when something on the way has moved.
  private func reopen(_ inode: Inode) throws -> VaultDirectory? {
    var missing: [(inode: Inode, link: Inode.Link)] = []
    var current = inode
    var base: VaultDirectory?
    while base == nil {
      guard let link = current.link else { throw MountFailure.notFound }
      missing.append((current, link))
      current = link.parent
      base = current === table.root ? root : directories.find(current.nodeid)
    }
    for (child, link) in missing.reversed() {
      guard let parent = base else { return nil }
      guard let entry = try parent.lookup(link.name),
        BackingIdentity(entry.status) == child.identity
      else { return try moved(child, from: link) }
      base = keep(child, try parent.openDirectory(entry))
    }
    return base
  }

  /// Keeps an opened directory and notes who may change it.
  func keep(_ inode: Inode, _ directory: VaultDirectory) -> VaultDirectory {
    note(visibilityOf: directory, inode)
    return directories.insert(inode.nodeid, directory)
  }

  func note(visibilityOf directory: VaultDirectory, _ inode: Inode) {
    inode.visibility.store(directory.isNative ? .open : .sealed, ordering: .relaxed)
  }

  /// Drops a name that leads nowhere, if there is another or it changed meanwhile; else gives up.
  private func moved(_ inode: Inode, from link: Inode.Link) throws -> VaultDirectory? {
    let links = inode.links
    guard links.count > 1 || !(links.first?.isSame(link) ?? false) else { throw MountFailure.stale }
    if links.count > 1 { inode.remove(link) }
    return nil
  }

  /// Where an object other than the root is in the vault now, under any of its names.
  func locate(_ inode: Inode) throws -> Location {
    for _ in 0..<Self.attempts {
      guard let link = inode.link else {
        if isReplaced(inode) { throw MountFailure.stale }
        guard let remains = inode.remains else { throw MountFailure.notFound }
        return remains
      }
      let parent = try directory(link.parent)
      if let entry = try parent.lookup(link.name), isSame(entry, inode) {
        return Location(directory: parent, entry: entry)
      }
      _ = try moved(inode, from: link)
    }
    throw MountFailure.stale
  }

  /// Whether an entry found under a name of `inode` is that inode. Renaming a symbolic link makes a new
  /// backing inode under the same nodeid, so of links only the name counts.
  func isSame(_ entry: VaultEntry, _ inode: Inode) -> Bool {
    if BackingIdentity(entry.status) == inode.identity { return true }
    return switch (entry.mode, inode.mode) {
    case (.symbolicLink, .symbolicLink), (.symbolicLink, .longLink), (.longLink, .symbolicLink),
      (.longLink, .longLink):
      true
    case _: false
    }
  }

  /// Runs `body` with a descriptor that stands for the object, perhaps one from O_PATH: enough for
  /// status, mode, owner, times and attributes, whatever the object's permissions.
  func withNode<R>(_ inode: Inode, _ body: (Int32) throws -> R) throws -> R {
    try retrying(inode) { try withPresentNode(inode, body) }
  }

  /// Looks again when the last name went while the object was looked for by it: a rename that replaces a
  /// file opens it first, see ``FileSystem/closeIfUnused(_:)``.
  func retrying<R>(_ inode: Inode, _ body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch MountFailure.notFound where inode.file != nil {
      return try body()
    }
  }

  private func withPresentNode<R>(_ inode: Inode, _ body: (Int32) throws -> R) throws -> R {
    if let descriptor = inode.file?.sharedDescriptor() {
      return try withExtendedLifetime(descriptor) { try body($0.rawValue) }
    }
    if case .directory = inode.mode, inode.remains == nil {
      let directory = try directory(inode)
      let descriptor = try directory.descriptor()
      return try withExtendedLifetime(descriptor) { try body($0.rawValue) }
    }
    let place = try locate(inode)
    let node = try place.directory.openNode(place.entry)
    return try withExtendedLifetime(node) { try body($0.rawValue) }
  }

  // MARK: Names for people

  /// The path of an object in the mount, for log lines and status.
  func path(_ inode: Inode) -> String {
    guard inode !== table.root else { return "/" }
    var parts: [[UInt8]] = []
    var current = inode
    while let link = current.link {
      parts.append(link.name)
      current = link.parent
    }
    guard !parts.isEmpty else { return "(deleted, inode \(inode.identity.inode))" }
    return parts.reversed().map { "/" + String(decoding: $0, as: UTF8.self) }.joined()
  }

  /// Logs an integrity failure of an operation on `inode`, or on a name in it.
  func report(_ error: any Error, _ inode: Inode?, name: [UInt8]? = nil) {
    guard ErrnoMap.isIntegrityFailure(error) else { return }
    counters.integrityFailures.wrappingAdd(1, ordering: .relaxed)
    var path = inode.map(path) ?? "(unknown)"
    if let name { path += (path == "/" ? "" : "/") + String(decoding: name, as: UTF8.self) }
    integrity.report(path: path, error)
  }
}

/// An entry and the directory it is in, or was.
struct Location: Sendable {
  let directory: VaultDirectory
  let entry: VaultEntry
}
