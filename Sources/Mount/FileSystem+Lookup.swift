import CFuse
import Container
import Glibc
import Primitives
import SystemPackage
import Vault

/// An inode handed to the kernel, with its attributes.
struct Entry {
  var inode: Inode?
  var parameters = fuse_entry_param()
}

extension FileSystem {
  /// LOOKUP: decides the mode of an inode, once and for all.
  func lookup(_ nodeid: UInt64, _ name: [UInt8]) throws -> Entry {
    let parent = try inode(nodeid)
    let directory = try directory(parent)
    guard let entry = try directory.lookup(name) else {
      // Sealed names come and go only through this mount, so the kernel may remember a miss.
      guard !directory.isNative, timeouts.negative > 0 else { throw MountFailure.notFound }
      var absent = Entry(inode: nil)
      absent.parameters.entry_timeout = timeouts.negative
      return absent
    }
    return try enter(entry, name, in: directory, parent)
  }

  /// Makes an entry known to the kernel: counts one lookup, which the caller's reply hands over.
  ///
  /// A name that leads to an object known by another one is proven first, unless this mount made it
  /// just now: what is opened later is opened by any of the object's names.
  func enter(
    _ entry: VaultEntry, _ name: [UInt8], in directory: VaultDirectory, _ parent: Inode,
    isProven: Bool = false
  ) throws -> Entry {
    let link = Inode.Link(parent: parent, name: name)
    var (inode, isNew) = table.meet(BackingIdentity(entry.status), mode: entry.mode, link: link)
    do {
      if !isProven, isNew ? entry.hasOtherNames : !inode.isKnown(as: link) {
        do { try directory.prove(entry) } catch {
          inode = table.setApart(inode, isNew: isNew, link: link)
          throw error
        }
      }
      if !isNew { inode.add(link) }
      var status: FileStatus?
      if let file = inode.file { status = try liveStatus(file) }
      let known = try status ?? self.status(entry, in: directory)
      return Entry(
        inode: inode,
        parameters: parameters(inode, known, namesAreOurs: !directory.isNative))
    } catch  where ErrnoMap.isIntegrityFailure(error) {
      return Entry(
        inode: inode,
        parameters: unreadable(inode, entry, namesAreOurs: !directory.isNative))
    } catch {
      table.forget(inode.nodeid, count: 1)
      throw error
    }
  }

  /// A damaged entry keeps its name, or nobody could remove it or put another file in its place:
  /// the kernel looks an entry up before it unlinks it. Its attributes may not be kept, so that
  /// whoever asks for them gets the error.
  private func unreadable(
    _ inode: Inode, _ entry: VaultEntry, namesAreOurs: Bool
  ) -> fuse_entry_param {
    var status = entry.status
    status.size = 0
    if entry.mode == .longLink {
      status.mode = UInt32(FileKind.symbolicLink.rawValue) << 12 | 0o777
    }
    var parameters = parameters(inode, status, namesAreOurs: namesAreOurs)
    parameters.attr_timeout = 0
    return parameters
  }

  /// What the kernel is told of an inode under a name.
  func parameters(
    _ inode: Inode, _ status: FileStatus, namesAreOurs: Bool
  ) -> fuse_entry_param {
    var parameters = fuse_entry_param()
    parameters.ino = fuse_ino_t(inode.nodeid)
    parameters.generation = inode.nodeid >> 32
    parameters.attr = stat(status, of: inode)
    parameters.attr_timeout = namesAreOurs ? timeout(inode) : min(timeout(inode), timeouts.shared)
    parameters.entry_timeout = namesAreOurs ? timeouts.exclusive : timeouts.shared
    return parameters
  }

  /// READLINK.
  func readLink(_ nodeid: UInt64) throws -> [UInt8] {
    let inode = try inode(nodeid)
    switch inode.mode {
    case .symbolicLink, .longLink: break
    case .plain, .container, .directory, .special: throw MountFailure.invalid
    }
    let place = try locate(inode)
    return try place.directory.readLink(place.entry)
  }

  /// STATFS of the backing filesystem; free space is what it has, names are ours.
  func statistics() throws -> statvfs {
    let backing = try vault.filesystemStatus()
    var result = statvfs()
    result.f_bsize = UInt(backing.blockSize)
    result.f_frsize = UInt(backing.fragmentSize == 0 ? backing.blockSize : backing.fragmentSize)
    result.f_blocks = fsblkcnt_t(backing.blocks)
    result.f_bfree = fsblkcnt_t(backing.freeBlocks)
    result.f_bavail = fsblkcnt_t(backing.availableBlocks)
    result.f_files = fsfilcnt_t(backing.files)
    result.f_ffree = fsfilcnt_t(backing.freeFiles)
    result.f_favail = fsfilcnt_t(backing.freeFiles)
    result.f_namemax = 255
    return result
  }
}
