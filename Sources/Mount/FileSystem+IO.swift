import Container
import Glibc
import Primitives
import Synchronization
import SystemPackage
import Vault

/// An opened file, as the kernel is to be told.
struct Opened {
  let file: OpenFile
  let backingID: Int32?
  let flags: OpenFlags
}

extension FileSystem {
  // MARK: OPEN and RELEASE

  /// OPEN, with O_TRUNC done before the reply as the kernel expects (ATOMIC_O_TRUNC).
  func open(_ inode: Inode, flags: Int32, stripping writer: Writer?) throws -> Opened {
    switch inode.mode {
    case .plain, .container: break
    case .directory: throw MountFailure.isADirectory
    case .symbolicLink, .longLink: throw Errno.tooManySymbolicLinkLevels
    case .special: throw Errno.noSuchAddressOrDevice
    }
    let truncates = flags & O_TRUNC != 0
    guard flags & O_ACCMODE != O_RDONLY || truncates else {
      guard !isReplaced(inode) else { throw MountFailure.stale }
      // Closing it has nothing to commit.
      return opened(inode, try acquire(inode, writable: false), .noFlush)
    }
    try beginChange(inode)
    do {
      let file = try acquire(inode, writable: true)
      do {
        if truncates {
          try truncate(inode, file, to: 0)
          try stripPrivileges(file, of: writer)
        }
      } catch {
        release(inode, file)
        throw error
      }
      // A writer counts until RELEASE.
      if flags & O_ACCMODE == O_RDONLY { endChange(inode) }
      return opened(inode, file)
    } catch {
      endChange(inode)
      throw error
    }
  }

  /// Decides how the kernel is to treat an open: by the inode's mode and nothing else, since an inode
  /// cannot be open with the page cache and with passthrough at once.
  func opened(_ inode: Inode, _ file: OpenFile, _ flags: OpenFlags = []) -> Opened {
    if let container = file.sharedContainer() {
      counters[container.policy].countOpen()
      return Opened(file: file, backingID: nil, flags: isReadOnly ? flags : flags.union(.keepCache))
    }
    counters.plain.countOpen()
    let descriptor = file.sharedDescriptor()
    let backingID = descriptor.flatMap {
      backing?.acquire(
        inode: inode.nodeid, descriptor: hasSetID($0.rawValue) ? nil : $0.rawValue)
    }
    if backingID != nil { counters.passthroughOpens.wrappingAdd(1, ordering: .relaxed) }
    return Opened(file: file, backingID: backingID, flags: flags)
  }

  /// RELEASE, or an OPEN whose opener never heard of it; `flags` are those of its open(2).
  func close(_ inode: Inode, _ file: OpenFile, flags: Int32) {
    if case .plain = inode.mode { backing?.release(inode: inode.nodeid) }
    release(inode, file)
    // After the last commit: a conversion then sees all that was written.
    if flags & O_ACCMODE != O_RDONLY { endChange(inode) }
  }

  /// RELEASE of a nodeid; the last one commits and closes.
  func close(_ nodeid: UInt64, flags: Int32) throws {
    let inode = try inode(nodeid)
    guard let file = inode.file else { throw MountFailure.badHandle }
    close(inode, file, flags: flags)
  }

  /// The open file behind a request on a handle.
  func openFile(_ nodeid: UInt64) throws -> (inode: Inode, file: OpenFile) {
    let inode = try inode(nodeid)
    guard let file = inode.file else { throw MountFailure.badHandle }
    return (inode, file)
  }

  // MARK: READ and WRITE

  /// READ into the reply's own memory.
  ///
  /// - Returns: bytes read; fewer than asked for only at the end of the file.
  func read(
    _ nodeid: UInt64, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws -> Int {
    let (_, file) = try openFile(nodeid)
    return try file.lock.withReadLock {
      if let container = file.container {
        let count = try container.read(at: offset, into: buffer)
        counters[container.policy].countRead(count)
        return count
      }
      guard let descriptor = file.descriptor else { throw MountFailure.badHandle }
      let count = try Sys.pread(descriptor.rawValue, buffer, at: Int64(clamping: offset))
      counters.plain.countRead(count)
      return count
    }
  }

  /// WRITE. An appending write goes to the end of the file, wherever the kernel thought that was.
  func write(
    _ nodeid: UInt64, at offset: UInt64, from buffer: UnsafeRawBufferPointer, appends: Bool,
    isGathered: Bool, stripping writer: Writer?
  ) throws {
    let (inode, file) = try openFile(nodeid)
    guard offset <= UInt64(Int64.max) - UInt64(buffer.count) else { throw Errno.fileTooLarge }
    if appends {
      try file.lock.withWriteLock { try write(inode, file, at: nil, buffer) }
    } else if isGathered, gathersWrites {
      try file.lock.withReadLock { try writeGathered(inode, file, at: offset, buffer) }
    } else {
      try file.lock.withReadLock { try write(inode, file, at: offset, buffer) }
    }
    try stripPrivileges(file, of: writer)
  }

  /// Writes with the file's lock held; without an offset at the end.
  private func write(
    _ inode: Inode, _ file: OpenFile, at offset: UInt64?, _ buffer: UnsafeRawBufferPointer
  ) throws {
    if let container = file.container {
      defer { changed(inode, file) }
      try container.write(at: offset ?? container.size, from: buffer)
      counters[container.policy].countWrite(buffer.count)
      return
    }
    guard let descriptor = file.descriptor else { throw MountFailure.badHandle }
    let start = try offset ?? Sys.fstatx(descriptor.rawValue, fields: .size).size
    try Sys.pwrite(descriptor.rawValue, buffer, at: Int64(clamping: start))
    counters.plain.countWrite(buffer.count)
  }

  /// Writes what the kernel has gathered, with the file's lock held. The kernel alone has a new modification time for
  /// it, and sends that if it is another one than it was told before.
  private func writeGathered(
    _ inode: Inode, _ file: OpenFile, at offset: UInt64, _ buffer: UnsafeRawBufferPointer
  ) throws {
    if let container = file.container {
      defer {
        file.noteDirty()
        maintenance.watch(inode, file)
      }
      try container.write(at: offset, from: buffer)
      counters[container.policy].countWrite(buffer.count)
      return
    }
    guard let descriptor = file.descriptor else { throw MountFailure.badHandle }
    let time = try Sys.fstatx(descriptor.rawValue, fields: .mtime).mtime
    try Sys.pwrite(descriptor.rawValue, buffer, at: Int64(clamping: offset))
    // Only the owner may set a time; what others write to it has that of the write.
    try? Sys.futimens(descriptor.rawValue, access: .omit, modification: .set(time))
    counters.plain.countWrite(buffer.count)
  }

  // MARK: FLUSH and FSYNC

  /// FLUSH, at every close(2): what was written survives the end of this process.
  func flush(_ nodeid: UInt64) throws {
    let (inode, file) = try openFile(nodeid)
    try commit(inode, file)
  }

  /// FSYNC.
  func fsync(_ nodeid: UInt64, dataOnly: Bool) throws {
    let (inode, file) = try openFile(nodeid)
    try sync(inode, file, dataOnly: dataOnly)
  }
}
