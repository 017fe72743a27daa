import CFuse
import Container
import Glibc
import Primitives
import Synchronization
import SystemPackage
import Vault

/// What SETATTR changes.
struct AttributeChange {
  var mode: UInt32?
  var uid: UInt32?
  var gid: UInt32?
  var size: UInt64?
  var access: TimeUpdate = .omit
  var modification: TimeUpdate = .omit

  /// Whether nothing is set. The kernel sends that where HANDLE_KILLPRIV_V2 leaves it to us to take suid, sgid
  /// and capabilities off: for `chown(path, -1, -1)`, and before fallocate and copy_file_range.
  var isEmpty: Bool {
    mode == nil && uid == nil && gid == nil && size == nil && access == .omit
      && modification == .omit
  }
}

/// Attributes and how long they hold.
struct InodeAttributes {
  var stat: stat
  /// When it was made, where the backing filesystem knows.
  var birth: timespec?
  /// Seconds.
  var timeout: Double
}

extension StatusFields {
  /// What callers may ask for.
  static let told: StatusFields = [.basic, .btime]
}

extension FileSystem {
  func attributes(_ inode: Inode) throws -> InodeAttributes {
    let status = try status(inode)
    return InodeAttributes(
      stat: stat(status, of: inode),
      birth: status.fields.contains(.btime) ? timespec(status.btime) : nil,
      timeout: timeout(inode))
  }

  /// ACCESS, which only root asks: it may do everything but execute what nobody may.
  func checkAccess(_ nodeid: UInt64, _ mask: Int32) throws {
    let inode = try inode(nodeid)
    if case .directory = inode.mode { return }
    guard mask & X_OK != 0, try status(inode).mode & 0o111 == 0 else { return }
    throw Errno.permissionDenied
  }

  /// The plain attributes of an inode now.
  func status(_ inode: Inode) throws -> FileStatus {
    try retrying(inode) { try presentStatus(inode) }
  }

  private func presentStatus(_ inode: Inode) throws -> FileStatus {
    if let file = inode.file, let status = try liveStatus(file) { return status }
    if case .directory = inode.mode, inode.remains == nil {
      let open = inode === table.root ? root : directories.find(inode.nodeid)
      if let open { return try Sys.fstatx(try open.descriptor().rawValue, fields: .told) }
    }
    let place = try locate(inode)
    return try status(place.entry, in: place.directory)
  }

  /// The plain attributes of an entry that is not open.
  func status(_ entry: VaultEntry, in directory: VaultDirectory) throws -> FileStatus {
    var status = try directory.plainStatus(entry)
    if case .container = entry.mode { Self.claimSpace(&status, 0) }
    return status
  }

  /// The plain attributes of an open file; nil while it is being opened.
  func liveStatus(_ file: OpenFile) throws -> FileStatus? {
    try file.lock.withReadLock { () throws -> FileStatus? in
      guard let descriptor = file.descriptor else { return nil }
      guard let container = file.container else {
        return try Sys.fstatx(descriptor.rawValue, fields: .told)
      }
      // The pending times are read first: if a commit ends in between, the backing file has them.
      let times = file.pendingTimes()
      var status = try Sys.fstatx(descriptor.rawValue, fields: .told)
      status.size = container.size
      Self.claimSpace(&status, container.allocatedBytes)
      if let time = times.modification { status.mtime = time }
      if let time = times.change { status.ctime = max(status.ctime, time) }
      return status
    }
  }

  /// Programs that look for holes take a file with content and without blocks for one hole.
  private static func claimSpace(_ status: inout FileStatus, _ allocated: UInt64) {
    status.blocks = max(status.blocks, allocated / 512, status.size > 0 ? 8 : 0)
  }

  /// Seconds for which the kernel may keep the attributes of an inode. Those of a file with changes that
  /// are not committed yet do not last: the commit will move its change time and its blocks.
  func timeout(_ inode: Inode) -> Double {
    if let file = inode.file, let stored = file.sharedStored(),
      stored.isDirty || file.times.withLock({ $0.modification != nil })
    {
      return 0
    }
    return switch inode.mode {
    // The kernel hears of stores through a passed-through mapping from nobody, so it must ask.
    case .plain: inode.file == nil ? timeouts.shared : 0
    case .directory:
      inode.visibility.load(ordering: .relaxed) == .sealed ? timeouts.exclusive : timeouts.shared
    case .container, .symbolicLink, .longLink, .special: timeouts.exclusive
    }
  }

  /// What is shown of an inode.
  func stat(_ status: FileStatus, of inode: Inode) -> stat {
    var result = Glibc.stat()
    result.st_ino = ino_t(inode.shownNumber ?? status.inode)
    result.st_mode = status.mode
    result.st_nlink = nlink_t(status.links)
    result.st_uid = status.uid
    result.st_gid = status.gid
    result.st_rdev = dev_t(status.rdev)
    result.st_size = off_t(truncatingIfNeeded: status.size)
    result.st_blocks = blkcnt_t(truncatingIfNeeded: status.blocks)
    result.st_blksize = blksize_t(status.blockSize)
    result.st_atim = timespec(status.atime)
    result.st_mtim = timespec(status.mtime)
    result.st_ctim = timespec(status.ctime)
    owners.show(&result)
    return result
  }

  // MARK: SETATTR

  /// `writer` is whoever truncates and may not keep suid and sgid, if it is one.
  func setAttributes(
    _ nodeid: UInt64, _ change: AttributeChange, by caller: Writer, stripping writer: Writer?
  ) throws -> InodeAttributes {
    try requireWritable()
    let inode = try inode(nodeid)
    try beginChange(inode)
    defer { endChange(inode) }
    let change = try owners.stored(change)
    if let size = change.size { try truncate(inode, to: size, stripping: writer) }
    if change.isEmpty {
      try withNode(inode) { node in
        try requireRight(inode, node, toStripBy: caller)
        try stripPrivileges(node, of: caller)
      }
    } else if change.uid != nil || change.gid != nil || change.mode != nil {
      try withNode(inode) { node in
        // The owner first: changing it, also to what it was, takes suid and sgid off, which `mode` may put back.
        if change.uid != nil || change.gid != nil {
          try Sys.fchownat(node, uid: change.uid, gid: change.gid)
        }
        if let mode = change.mode { try Sys.chmodPath(node, mode: mode & 0o7777) }
      }
    }
    if change.access != .omit || change.modification != .omit { try setTimes(inode, change) }
    return try attributes(inode)
  }

  /// Truncates through whatever is open, or opens the file for it.
  func truncate(_ inode: Inode, to size: UInt64, stripping writer: Writer?) throws {
    switch inode.mode {
    case .plain, .container: break
    case .directory: throw MountFailure.isADirectory
    case .symbolicLink, .longLink, .special: throw MountFailure.invalid
    }
    try withFile(inode, writable: true) { file in
      try truncate(inode, file, to: size)
      try stripPrivileges(file, of: writer)
    }
  }

  func truncate(_ inode: Inode, _ file: OpenFile, to size: UInt64) throws {
    guard let limit = Int64(exactly: size) else { throw Errno.fileTooLarge }
    try file.lock.withReadLock {
      if let container = file.container {
        try container.truncate(to: size)
        changed(inode, file)
      } else if let descriptor = file.descriptor {
        try Sys.ftruncate(descriptor.rawValue, size: limit)
      }
    }
  }

  private func setTimes(_ inode: Inode, _ change: AttributeChange) throws {
    if let file = inode.file, let container = file.sharedContainer() {
      // Until the next commit the backing file's time is not the plain one; that commit must keep this.
      let pending = file.times.withLock { $0.modification != nil } || container.isDirty
      switch change.modification {
      case .omit: break
      case .now: if pending { file.setModification(Clock.coarse()) }
      case .set(let time): if pending { file.setModification(time) }
      }
    }
    try withNode(inode) { node in
      try Sys.futimens(node, access: change.access, modification: change.modification)
    }
  }
}

extension timespec {
  init(_ time: TimeSpec) {
    self.init(tv_sec: Int(time.seconds), tv_nsec: Int(time.nanoseconds))
  }
}

extension TimeSpec {
  /// A time from the kernel; what no clock says becomes the nearest it does.
  init(_ time: timespec) {
    self.init(
      seconds: Int64(time.tv_sec), nanoseconds: UInt32(clamping: min(time.tv_nsec, 999_999_999)))
  }
}
