import CFuse
import Container
import Glibc
import Primitives
import Synchronization
import SystemPackage
import Vault

extension FileSystem {
  /// Who owns what a caller makes: nobody is asked when this process could not give it away anyway.
  private func owner(_ caller: Caller, in directory: VaultDirectory) throws -> Owner? {
    guard isRoot else { return nil }
    guard !owners.isEmpty else { return Owner(uid: caller.uid, gid: caller.gid) }
    let parent = try Sys.fstatx(try directory.descriptor().rawValue)
    return owners.owner(caller, in: Owner(uid: parent.uid, gid: parent.gid))
  }

  /// MKDIR: a directory with its parent's policy.
  func makeDirectory(
    _ nodeid: UInt64, _ name: [UInt8], mode: UInt32, _ caller: Caller
  ) throws -> Entry {
    try requireWritable()
    let parent = try inode(nodeid)
    let directory = try directory(parent)
    let made = try directory.makeDirectory(
      name, mode: try masked(mode & 0o7777, caller, in: parent, directory),
      owner: try owner(caller, in: directory))
    let entry = try enter(made.entry, name, in: directory, parent)
    if let inode = entry.inode { _ = keep(inode, made.directory) }
    return entry
  }

  /// MKNOD: devices, FIFOs, sockets, and regular files, which are created and closed.
  func makeNode(
    _ nodeid: UInt64, _ name: [UInt8], mode: UInt32, device: UInt64, _ caller: Caller
  ) throws -> Entry {
    if mode & S_IFMT == S_IFREG || mode & S_IFMT == 0 {
      let created = try create(nodeid, name, mode: mode, caller)
      if let inode = created.entry.inode { release(inode, created.file) }
      return created.entry
    }
    try requireWritable()
    let parent = try inode(nodeid)
    let directory = try directory(parent)
    let entry = try directory.makeNode(
      name, mode: try masked(mode, caller, in: parent, directory), device: device,
      owner: try owner(caller, in: directory))
    return try enter(entry, name, in: directory, parent)
  }

  /// SYMLINK.
  func makeLink(
    _ nodeid: UInt64, _ name: [UInt8], target: [UInt8], _ caller: Caller
  ) throws -> Entry {
    try requireWritable()
    guard !target.isEmpty else { throw MountFailure.notFound }
    guard target.count <= 4095 else { throw MountFailure.nameTooLong }
    let parent = try inode(nodeid)
    let directory = try directory(parent)
    let entry = try directory.makeSymbolicLink(
      name, target: target, owner: try owner(caller, in: directory))
    return try enter(entry, name, in: directory, parent)
  }

  /// Makes a regular file and opens it, with one user.
  func create(
    _ nodeid: UInt64, _ name: [UInt8], mode: UInt32, _ caller: Caller
  ) throws -> (entry: Entry, file: OpenFile) {
    try requireWritable()
    let parent = try inode(nodeid)
    let directory = try directory(parent)
    let created = try directory.createFile(
      name, mode: try masked(mode & 0o7777, caller, in: parent, directory),
      owner: try owner(caller, in: directory))
    let link = Inode.Link(parent: parent, name: name)
    let inode = table.remember(
      BackingIdentity(created.entry.status), mode: created.entry.mode, link: link)
    let backing = created.container.map { OpenFile.Backing.container($0) }
    let file = adopt(inode, backing ?? .plain(created.descriptor))
    noteCreated(inode, file, created.entry.status, in: parent)
    var entry = Entry(
      inode: inode,
      parameters: parameters(inode, created.entry.status, namesAreOurs: !directory.isNative))
    if case .container = inode.mode {
      // The kernel checks permissions of what it just had made, and would ask for attributes first.
      entry.parameters.attr_timeout = max(entry.parameters.attr_timeout, 0.05)
    }
    return (entry, file)
  }

  /// CREATE: makes a file, or opens the one that is there already unless O_EXCL says not to.
  func createAndOpen(
    _ nodeid: UInt64, _ name: [UInt8], mode: UInt32, flags: Int32, _ caller: Caller,
    stripping writer: Writer?
  ) throws -> (entry: Entry, opened: Opened) {
    if name == Self.noName {
      let (entry, file) = try createTemporary(nodeid, mode: mode, caller)
      return (entry, try openedNew(entry, file, flags))
    }
    do {
      let (entry, file) = try create(nodeid, name, mode: mode, caller)
      return (entry, try openedNew(entry, file, flags))
    } catch {
      guard ErrnoMap.errno(error) == EEXIST, flags & O_EXCL == 0 else { throw error }
    }
    let entry = try lookup(nodeid, name)
    guard let inode = entry.inode else { throw MountFailure.stale }
    do {
      let opened = try open(inode, flags: flags, stripping: writer)
      var current = entry
      if flags & O_TRUNC != 0 { current.parameters.attr = try attributes(inode).stat }
      return (current, opened)
    } catch {
      table.forget(inode.nodeid, count: 1)
      throw error
    }
  }

  private func openedNew(_ entry: Entry, _ file: OpenFile, _ flags: Int32) throws -> Opened {
    guard let inode = entry.inode else { throw MountFailure.stale }
    // Nobody knows the inode yet, so no conversion can be about to replace it.
    if flags & O_ACCMODE != O_RDONLY { try beginChange(inode) }
    return opened(inode, file)
  }

  /// How TMPFILE arrives: as a CREATE of a name that cannot be.
  private static let noName = [UInt8(ascii: "/")]

  /// TMPFILE: a file without a name, open, with one user. LINK may name it later.
  private func createTemporary(
    _ nodeid: UInt64, mode: UInt32, _ caller: Caller
  ) throws -> (entry: Entry, file: OpenFile) {
    try requireWritable()
    let parent = try inode(nodeid)
    let directory = try directory(parent)
    let made = try directory.createTemporary(
      mode: try masked(mode & 0o7777, caller, in: parent, directory),
      owner: try owner(caller, in: directory))
    let mode: InodeMode = made.container == nil ? .plain : .container
    let inode = table.remember(BackingIdentity(made.status), mode: mode, link: nil)
    let backing = made.container.map { OpenFile.Backing.container($0) }
    let file = adopt(inode, backing ?? .plain(made.descriptor))
    file.setTemporary(made)
    noteCreated(inode, file, made.status, in: parent)
    let entry = Entry(
      inode: inode,
      parameters: parameters(inode, made.status, namesAreOurs: !directory.isNative))
    return (entry, file)
  }

  /// The mode of a new object: the umask counts unless the directory has a default access list, which the
  /// backing filesystem then applies instead.
  private func masked(
    _ mode: UInt32, _ caller: Caller, in parent: Inode, _ directory: VaultDirectory
  ) throws -> UInt32 {
    guard caller.umask & 0o777 != 0 else { return mode }
    return try hasDefaultList(parent, directory) ? mode : mode & ~caller.umask
  }

  private func hasDefaultList(_ inode: Inode, _ directory: VaultDirectory) throws -> Bool {
    let known = inode.defaultList.load(ordering: .relaxed)
    guard known == .unknown else { return known == .present }
    let descriptor = try directory.descriptor()
    let empty = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    let size = try? Sys.getxattrPath(descriptor.rawValue, Self.defaultList, into: empty)
    let isPresent = (size ?? 0) > 0
    // Other programs may set one where the backing directory is the data. Elsewhere the kernel lets nobody set one
    // while an entry is made.
    if !directory.isNative {
      inode.defaultList.store(isPresent ? .present : .absent, ordering: .relaxed)
    }
    return isPresent
  }

  static let defaultList = Array("system.posix_acl_default".utf8)

  /// LINK: one more name for the same inode. A symbolic link with a sealed target is copied instead,
  /// because the target carries the name it was made for.
  func link(_ nodeid: UInt64, to newNodeid: UInt64, _ newName: [UInt8]) throws -> Entry {
    try requireWritable()
    let inode = try inode(nodeid)
    let newParent = try self.inode(newNodeid)
    let target = try directory(newParent)
    switch inode.mode {
    case .directory: throw Errno.notPermitted
    case .plain, .container, .symbolicLink, .longLink, .special: break
    }
    try beginChange(inode)
    defer { endChange(inode) }
    try commitIfOpen(inode)
    if let temporary = inode.file?.temporary, inode.link == nil {
      let entry = try target.linkTemporary(temporary, as: newName)
      return try enter(entry, newName, in: target, newParent, isProven: true)
    }
    let place = try locate(inode)
    let entry = try place.directory.link(place.entry, to: target, as: newName)
    return try enter(entry, newName, in: target, newParent, isProven: true)
  }
}
