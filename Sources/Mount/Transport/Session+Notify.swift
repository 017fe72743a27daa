import CFuse
import Glibc
import SystemPackage

/// Telling the kernel that what it cached is out of date.
///
/// **Never call these while handling a request for the same inode or directory, nor holding a lock such a
/// handler takes.** The kernel waits for the inode's pages, whose READ may be waiting for this very thread, or for
/// the directory's lock, which the process that made the request holds: a deadlock nothing ends but SIGKILL.
extension Session {
  /// Drops an inode's cached attributes and the pages of a range.
  ///
  /// - Parameters:
  ///   - nodeID: the inode.
  ///   - offset: in bytes; negative drops attributes only.
  ///   - length: in bytes; 0 is to the end of the file.
  /// - Throws: ENOENT when the kernel does not know the inode, which is as good.
  public func invalidateInode(_ nodeID: UInt64, offset: Int64 = 0, length: Int64 = 0) throws(Errno)
  {
    let result = fuse_lowlevel_notify_inval_inode(session, nodeID, off_t(offset), off_t(length))
    guard result == 0 else { throw Errno(rawValue: -result) }
  }

  /// Drops a cached name, known or known to be absent, from a directory.
  ///
  /// - Throws: ENOENT when the name was not cached, which is as good.
  public func invalidateEntry(parent: UInt64, name: [UInt8]) throws(Errno) {
    let result = name.withUnsafeBytes { bytes in
      fuse_lowlevel_notify_inval_entry(
        session, parent, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
    }
    guard result == 0 else { throw Errno(rawValue: -result) }
  }
}
