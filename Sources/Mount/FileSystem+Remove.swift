import Container
import Glibc
import Primitives
import SystemPackage
import Vault

extension FileSystem {
  /// UNLINK. What is open stays usable: it belongs to the inode, not to the name.
  func unlink(_ nodeid: UInt64, _ name: [UInt8]) throws {
    try requireWritable()
    let parent = try inode(nodeid)
    let directory = try directory(parent)
    var inode: Inode?
    var isKept = false
    do {
      let entry = try directory.removeFile(name) { entry in
        inode = table.find(BackingIdentity(entry.status))
        isKept = keep(inode, entry, in: directory)
      }
      forget(inode, entry, Inode.Link(parent: parent, name: name))
    } catch {
      if isKept { inode?.keep(nil) }
      throw error
    }
  }

  /// RMDIR.
  func removeDirectory(_ nodeid: UInt64, _ name: [UInt8]) throws {
    try requireWritable()
    let parent = try inode(nodeid)
    let directory = try directory(parent)
    guard let entry = try directory.lookup(name) else { throw MountFailure.notFound }
    guard entry.mode == .directory else { throw MountFailure.notADirectory }
    let inode = table.find(BackingIdentity(entry.status))
    try outliving(inode, entry, in: directory) { try directory.removeDirectory(name) }
    forget(inode, entry, Inode.Link(parent: parent, name: name))
  }

  /// Keeps an object that may lose its last name within reach of those who hold it until the kernel forgets it.
  ///
  /// Not regular files: those that are open are reached through what is open, and the space of the
  /// others is to be free at once.
  ///
  /// - Returns: whether it is kept, until its name turns out to stay.
  private func keep(_ inode: Inode?, _ entry: VaultEntry, in directory: VaultDirectory) -> Bool {
    guard let inode, entry.mode == .directory || entry.status.links <= 1 else { return false }
    switch entry.mode {
    case .plain, .container: return false
    case .directory, .symbolicLink, .longLink, .special: break
    }
    // Where it cannot be kept it is as gone as its name.
    let kept = try? directory.outliving(entry)
    inode.keep(kept.map { Location(directory: directory, entry: $0) })
    return true
  }

  /// Runs what may take the last name from an object.
  private func outliving<R>(
    _ inode: Inode?, _ entry: VaultEntry?, in directory: VaultDirectory, _ remove: () throws -> R
  ) throws -> R {
    let isKept = entry.map { keep(inode, $0, in: directory) } ?? false
    do {
      return try remove()
    } catch {
      if isKept { inode?.keep(nil) }
      throw error
    }
  }

  /// Notes that `entry`, as it was before, lost a name.
  private func forget(_ inode: Inode?, _ entry: VaultEntry, _ link: Inode.Link) {
    guard let inode else { return }
    inode.remove(link)
    guard entry.mode == .directory || entry.status.links <= 1 else { return }
    // Its inode number may now come back as another object.
    table.detach(inode)
  }

  /// RENAME and RENAME2. The kernel has checked permissions, loops and types.
  func rename(
    _ nodeid: UInt64, _ name: [UInt8], _ newNodeid: UInt64, _ newName: [UInt8],
    flags: RenameFlags
  ) throws {
    try requireWritable()
    guard flags.isSubset(of: [.noReplace, .exchange]) else { throw MountFailure.invalid }
    let parent = try inode(nodeid)
    let newParent = try inode(newNodeid)
    let from = try directory(parent)
    let to = try directory(newParent)
    guard let source = try from.lookup(name) else { throw MountFailure.notFound }
    let target = try to.lookup(newName)
    if target == nil, flags.contains(.exchange) { throw MountFailure.notFound }
    if target != nil, flags.contains(.noReplace) { throw MountFailure.exists }
    let old = Inode.Link(parent: parent, name: name)
    let new = Inode.Link(parent: newParent, name: newName)
    if let target, BackingIdentity(target.status) == BackingIdentity(source.status) {
      // Two names of one inode: rename(2) does nothing.
      return
    }
    let moved = Moved(
      source: source, sourceInode: table.find(BackingIdentity(source.status)), old: old,
      target: target, targetInode: target.flatMap { table.find(BackingIdentity($0.status)) },
      new: new, isExchange: flags.contains(.exchange))
    try moved.sourceInode.map(beginChange)
    defer { moved.sourceInode.map(endChange) }
    for inode in [moved.sourceInode, moved.targetInode] { try inode.map(commitIfOpen) }
    let victim = moved.isExchange ? nil : keepOpen(moved.targetInode, target)
    defer { if let victim, let inode = moved.targetInode { drop(inode, victim) } }
    moved.announce()
    do {
      let result = try outliving(moved.isExchange ? nil : moved.targetInode, target, in: to) {
        // The kernel holds both directories: nobody else changes what was just looked up.
        try from.rename(source, to: to, newName, replacing: target, flags: flags)
      }
      finish(moved, result.moved, result.exchanged)
    } catch {
      moved.withdraw()
      throw error
    }
  }

  /// Opens what a rename is about to replace, if it goes for good: an open that found it before must succeed
  /// after, since the name was there all the time. See ``closeIfUnused(_:)`` for its end.
  private func keepOpen(_ inode: Inode?, _ target: VaultEntry?) -> OpenFile? {
    guard let inode, let target, target.status.links == 1,
      target.mode == .container || target.mode == .plain
    else { return nil }
    // Where it cannot be opened, the open that lost the race fails and is tried anew.
    return try? acquire(inode, writable: false)
  }

  private struct Moved {
    let source: VaultEntry
    let sourceInode: Inode?
    let old: Inode.Link
    let target: VaultEntry?
    let targetInode: Inode?
    let new: Inode.Link
    let isExchange: Bool

    /// Both names lead to the inodes for a moment, so that whoever looks for them meanwhile finds them.
    func announce() {
      sourceInode?.add(new)
      if isExchange { targetInode?.add(old) }
    }

    func withdraw() {
      sourceInode?.remove(new)
      if isExchange { targetInode?.remove(old) }
    }
  }

  /// Notes where the inodes of a rename are now.
  private func finish(_ moved: Moved, _ source: VaultEntry, _ exchanged: VaultEntry?) {
    moved.sourceInode?.remove(moved.old)
    follow(moved.sourceInode, remadeAs: source)
    if let exchanged {
      moved.targetInode?.remove(moved.new)
      follow(moved.targetInode, remadeAs: exchanged)
    } else if let target = moved.target {
      forget(moved.targetInode, target, moved.new)
    }
  }

  /// A sealed symbolic link is made anew by a rename; for whoever knows it, it stays the same inode.
  private func follow(_ inode: Inode?, remadeAs entry: VaultEntry) {
    guard let inode, inode.identity != BackingIdentity(entry.status) else { return }
    table.remake(inode, as: BackingIdentity(entry.status))
  }
}
