import Glibc
import Primitives
import Synchronization
import SystemPackage

/// Set-user-ID and set-group-ID bits, and file capabilities, as the kernel's `file_remove_privs` and chown(2) do it.
extension FileSystem {
  /// Whether a file has bits that depend on who writes it. Passed through, the kernel would write it with the
  /// rights of the process that registered it.
  func hasSetID(_ descriptor: Int32) -> Bool {
    guard let status = try? Sys.fstatx(descriptor, fields: [.type, .mode]) else { return false }
    return status.mode & UInt32(S_ISUID | S_ISGID) != 0
  }

  /// Takes off what must go after a write by someone who may not keep it.
  func stripPrivileges(_ file: OpenFile, of writer: Writer?) throws {
    guard let writer, let descriptor = file.sharedDescriptor() else { return }
    let mode = try Sys.fstatx(descriptor.rawValue, fields: [.type, .mode]).mode
    guard mode & UInt32(S_ISUID | S_ISGID) != 0 else { return }
    try stripPrivileges(descriptor.rawValue, of: writer)
  }

  /// Takes off what must go, capabilities included, of what a descriptor stands for.
  func stripPrivileges(_ node: Int32, of writer: Writer) throws {
    let status = try Sys.fstatx(node)
    // Setting the owner, even to what it was, takes off all but the sgid of a file that is no program.
    try Sys.fchownat(node, uid: nil, gid: nil)
    let kept = status.mode & ~UInt32(S_ISUID) & 0o7777
    guard status.kind != .directory, kept & UInt32(S_ISGID | S_IXGRP) == UInt32(S_ISGID),
      !writer.isMember(of: status.gid)
    else { return }
    try Sys.chmodPath(node, mode: kept & ~UInt32(S_ISGID))
  }

  /// Refuses chown(2) of nothing to a stranger, where it would take bits off.
  ///
  /// The kernel sends the same before it changes a file that is open, which whoever holds it may do; then
  /// nobody is refused.
  func requireRight(_ inode: Inode, _ node: Int32, toStripBy writer: Writer) throws {
    let isInUse = inode.state.withLock { ($0.file?.users ?? 0) > 0 }
    if isInUse || writer.caller.uid == 0 { return }
    let status = try Sys.fstatx(node)
    guard status.kind != .directory, status.uid != writer.caller.uid else { return }
    let stripsGroup =
      status.mode & UInt32(S_ISGID) != 0
      && (status.mode & UInt32(S_IXGRP) != 0 || !writer.isMember(of: status.gid))
    if status.mode & UInt32(S_ISUID) != 0 || stripsGroup { throw Errno.notPermitted }
  }
}
