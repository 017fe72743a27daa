import Container
import Logging
import Primitives
import Synchronization
import SystemPackage

/// What all directories of an open vault share.
///
/// Lock order, outermost first: `VaultDirectory.changes` (two of them by directory ID), its
/// `recordChanges`, then any of the leaves: a directory's state, name cache, the registries, the
/// descriptor pool (which takes directories' states). No leaf is held across a system call.
final class VaultContext: Sendable {
  let keys: MasterKeys
  let session: SessionFile
  let access: VaultAccess
  let base: SharedFD
  let logger: Logger
  let directories = DirectoryRegistry()
  let containers = ContainerRegistry()
  let commits = SeenCommits()
  /// Whether a file was let go with changes that could not be stored.
  let hasLostChanges = Atomic<Bool>(false)
  let workspace: Workspace
  let nameLookups = CacheCounters()
  let descriptors: DescriptorPool
  let userID = Sys.effectiveUserID
  let groupID = Sys.effectiveGroupID

  init(
    keys: MasterKeys, session: SessionFile, access: VaultAccess, base: SharedFD, logger: Logger,
    workspace: Workspace, descriptorLimit: Int
  ) {
    self.keys = keys
    self.session = session
    self.access = access
    self.base = base
    self.logger = logger
    self.workspace = workspace
    descriptors = DescriptorPool(capacity: descriptorLimit)
  }

  var isWritable: Bool { access == .readWrite }

  func requireWritable() throws(VaultError) {
    if access == .readOnly { throw .readOnly }
  }

  /// What may be torn of the container in an inode that last changed then (format §10).
  func excuse(_ changeTime: TimeSpec) -> TornExcuse {
    TornExcuse(isExcused: isExcused(changeTime), sessions: session.uncleanSessions)
  }

  /// Whether an inode that last changed then may hold a torn commit (format §10).
  func isExcused(_ changeTime: TimeSpec) -> Bool {
    session.windows.contains { $0.excuses(changeTime) }
  }

  /// Opens for reading without moving the access time, which also a mere reader of the vault must
  /// leave alone; only the owner may ask for that.
  func openForReading(
    _ directory: Int32, _ name: [UInt8], _ flags: OpenFlags = []
  ) throws(Errno) -> OwnedFD {
    let flags = flags.union(.readOnly)
    if access == .readOnly {
      do throws(Errno) {
        return try Sys.openatWary(directory, name, flags.union(.noAccessTime))
      } catch .notPermitted {
        return try Sys.openatWary(directory, name, flags)
      }
    }
    return try Sys.openatWary(directory, name, flags)
  }

  /// Gives a new inode to who asked for it. In a setgid directory (or on a mount with `grpid`) the
  /// backing filesystem has chosen the group already.
  ///
  /// - Parameters:
  ///   - owner: Who asked.
  ///   - descriptor: The inode, perhaps open with O_PATH.
  ///   - mode: The mode it was made with.
  ///   - parent: The directory it was made in.
  /// - Throws: What fchownat(2) gave.
  func giveTo(
    _ owner: Owner?, _ descriptor: Int32, mode: UInt32, in parent: Int32
  ) throws(Errno) {
    guard let owner, userID == 0, owner.uid != userID || owner.gid != groupID else { return }
    let inheritsGroup = try Sys.fstatx(parent, fields: .mode).mode & 0o2000 != 0
    if inheritsGroup, owner.uid == userID { return }
    // chown takes the set-ID bits; a default ACL may have changed the others.
    let made =
      mode & 0o6000 == 0 ? nil : try Sys.fstatx(descriptor, fields: [.type, .mode])
    try Sys.fchownat(descriptor, uid: owner.uid, gid: inheritsGroup ? nil : owner.gid)
    if let made, made.kind != .directory {
      try Sys.chmodPath(descriptor, mode: made.mode & 0o7777)
    }
  }

  /// Opens a new inode with O_PATH and gives it to who asked for it.
  func giveTo(
    _ owner: Owner?, _ directory: Int32, _ name: [UInt8], mode: UInt32
  ) throws(Errno) {
    guard owner != nil, userID == 0 else { return }
    let made = try Sys.openat(directory, name, [.path, .noFollow])
    try giveTo(owner, made.rawValue, mode: mode, in: directory)
  }
}

/// Who a new entry belongs to.
public struct Owner: Sendable, Equatable {
  /// The user.
  public var uid: UInt32
  /// The group, unless the directory passes on its own.
  public var gid: UInt32

  /// Joins the two.
  public init(uid: UInt32, gid: UInt32) {
    self.uid = uid
    self.gid = gid
  }
}

/// What may be done with an open vault.
public enum VaultAccess: Sendable, Equatable {
  /// Nothing is written: no record, no repair, no access time where that can be avoided.
  case readOnly
  /// Everything; one writer at a time.
  case readWrite
}
