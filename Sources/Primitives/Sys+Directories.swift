import CLinux
import Glibc
import SystemPackage

/// Flags of open(2). O_CLOEXEC is always set.
public struct OpenFlags: OptionSet, Sendable {
  /// O_ bits as the kernel and FUSE requests have them.
  public let rawValue: Int32

  /// Takes O_ bits as they are.
  public init(rawValue: Int32) {
    self.rawValue = rawValue
  }

  /// O_RDONLY, which is no bit at all.
  public static let readOnly: OpenFlags = []
  /// O_WRONLY.
  public static let writeOnly = OpenFlags(rawValue: O_WRONLY)
  /// O_RDWR.
  public static let readWrite = OpenFlags(rawValue: O_RDWR)
  /// O_CREAT.
  public static let create = OpenFlags(rawValue: O_CREAT)
  /// O_EXCL.
  public static let exclusive = OpenFlags(rawValue: O_EXCL)
  /// O_TRUNC.
  public static let truncate = OpenFlags(rawValue: O_TRUNC)
  /// O_APPEND.
  public static let append = OpenFlags(rawValue: O_APPEND)
  /// O_NONBLOCK.
  public static let nonBlocking = OpenFlags(rawValue: O_NONBLOCK)
  /// O_NOFOLLOW.
  public static let noFollow = OpenFlags(rawValue: O_NOFOLLOW)
  /// O_DIRECTORY.
  public static let directory = OpenFlags(rawValue: O_DIRECTORY)
  /// O_SYNC.
  public static let sync = OpenFlags(rawValue: O_SYNC)
  /// O_DSYNC.
  public static let dataSync = OpenFlags(rawValue: O_DSYNC)
  /// O_PATH.
  public static let path = OpenFlags(rawValue: scrim_O_PATH)
  /// O_TMPFILE.
  public static let temporaryFile = OpenFlags(rawValue: scrim_O_TMPFILE)
  /// O_DIRECT.
  public static let direct = OpenFlags(rawValue: scrim_O_DIRECT)
  /// O_NOATIME.
  public static let noAccessTime = OpenFlags(rawValue: scrim_O_NOATIME)
}

/// Flags of renameat2(2).
public struct RenameFlags: OptionSet, Sendable {
  /// RENAME_ bits.
  public let rawValue: UInt32

  /// Takes RENAME_ bits as they are.
  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// Fails with EEXIST instead of replacing.
  public static let noReplace = RenameFlags(rawValue: scrim_RENAME_NOREPLACE)
  /// Swaps the two names.
  public static let exchange = RenameFlags(rawValue: scrim_RENAME_EXCHANGE)
  /// Leaves a whiteout in the old place.
  public static let whiteout = RenameFlags(rawValue: scrim_RENAME_WHITEOUT)
}

extension Sys {
  /// openat(2); O_CLOEXEC is added.
  ///
  /// - Parameters:
  ///   - directory: Where relative names start.
  ///   - name: One component or a path.
  ///   - flags: How to open.
  ///   - mode: Permission bits of a file this creates.
  /// - Returns: The open file.
  /// - Throws: The call's error.
  public static func openat(
    _ directory: Int32, _ name: [UInt8], _ flags: OpenFlags, mode: UInt32 = 0
  ) throws(Errno) -> OwnedFD {
    OwnedFD(
      owning: try withName(name) { name throws(Errno) in
        try retry { scrim_openat(directory, name, flags.rawValue | O_CLOEXEC, mode) }
      })
  }

  /// openat(2) of a file that somebody else may have replaced: it does not wait for the other end of a FIFO.
  ///
  /// - Parameters:
  ///   - directory: Where relative names start.
  ///   - name: One component or a path.
  ///   - flags: How to open; O_NOFOLLOW is added.
  ///   - mode: Permission bits of a file this creates.
  /// - Returns: The open file, which may be of any kind.
  /// - Throws: The call's error.
  public static func openatWary(
    _ directory: Int32, _ name: [UInt8], _ flags: OpenFlags, mode: UInt32 = 0
  ) throws(Errno) -> OwnedFD {
    let flags = flags.union(.noFollow)
    do throws(Errno) {
      return try openat(directory, name, flags.union(.nonBlocking), mode: mode)
    } catch .resourceTemporarilyUnavailable {
      // A file server has a lease on it, which it gives up when asked. Only files have leases.
      return try openat(directory, name, flags, mode: mode)
    }
  }

  /// Opens anew what a descriptor stands for, such as one from O_PATH (through /proc/self/fd).
  ///
  /// O_NOFOLLOW is dropped because the path is itself a link; a symbolic link gives ELOOP.
  public static func reopen(_ descriptor: Int32, _ flags: OpenFlags) throws(Errno) -> OwnedFD {
    OwnedFD(owning: try retry { scrim_reopen(descriptor, flags.rawValue | O_CLOEXEC) })
  }

  /// fcntl(2) F_DUPFD_CLOEXEC.
  public static func duplicate(_ descriptor: Int32) throws(Errno) -> OwnedFD {
    OwnedFD(owning: try retry { scrim_fcntl(descriptor, F_DUPFD_CLOEXEC, 0) })
  }

  /// statx(2) of a name, not following a symbolic link.
  ///
  /// - Parameters:
  ///   - directory: Where relative names start.
  ///   - name: One component or a path.
  ///   - fields: What is needed; asking for less can be cheaper.
  /// - Returns: At least the fields asked for that the filesystem has.
  /// - Throws: The call's error.
  public static func statx(
    _ directory: Int32, _ name: [UInt8], fields: StatusFields = .basic
  ) throws(Errno) -> FileStatus {
    try withName(name) { name throws(Errno) in
      try status(directory, name, AT_SYMLINK_NOFOLLOW, fields)
    }
  }

  /// statx(2) of a descriptor, one from O_PATH included.
  ///
  /// - Parameters:
  ///   - descriptor: The file.
  ///   - fields: What is needed; asking for less can be cheaper.
  /// - Returns: At least the fields asked for that the filesystem has.
  /// - Throws: The call's error.
  public static func fstatx(
    _ descriptor: Int32, fields: StatusFields = .basic
  ) throws(Errno) -> FileStatus {
    try status(descriptor, emptyName, scrim_AT_EMPTY_PATH, fields)
  }

  private static func status(
    _ descriptor: Int32, _ name: UnsafePointer<CChar>, _ flags: Int32, _ fields: StatusFields
  ) throws(Errno) -> FileStatus {
    var raw = scrim_status()
    _ = try retry { scrim_statx(descriptor, name, flags, fields.rawValue, &raw) }
    return FileStatus(raw)
  }

  /// A permanent empty C string, for AT_EMPTY_PATH.
  static var emptyName: UnsafePointer<CChar> {
    let empty: StaticString = ""
    return UnsafeRawPointer(empty.utf8Start).assumingMemoryBound(to: CChar.self)
  }

  /// mkdirat(2).
  public static func mkdirat(_ directory: Int32, _ name: [UInt8], mode: UInt32) throws(Errno) {
    _ = try withName(name) { name throws(Errno) in
      try retry { Glibc.mkdirat(directory, name, mode) }
    }
  }

  /// mknodat(2).
  ///
  /// - Parameters:
  ///   - directory: Where relative names start.
  ///   - name: The new name.
  ///   - mode: File type and permission bits.
  ///   - device: What a device file stands for.
  /// - Throws: The call's error.
  public static func mknodat(
    _ directory: Int32, _ name: [UInt8], mode: UInt32, device: UInt64 = 0
  ) throws(Errno) {
    _ = try withName(name) { name throws(Errno) in
      try retry { Glibc.mknodat(directory, name, mode, dev_t(device)) }
    }
  }

  /// unlinkat(2).
  ///
  /// - Parameters:
  ///   - directory: Where relative names start.
  ///   - name: What to remove.
  ///   - isDirectory: Whether it is a directory, as rmdir(2) expects.
  /// - Throws: The call's error.
  public static func unlinkat(
    _ directory: Int32, _ name: [UInt8], isDirectory: Bool = false
  ) throws(Errno) {
    _ = try withName(name) { name throws(Errno) in
      try retry { Glibc.unlinkat(directory, name, isDirectory ? AT_REMOVEDIR : 0) }
    }
  }

  /// renameat2(2).
  public static func renameat2(
    _ oldDirectory: Int32, _ oldName: [UInt8], _ newDirectory: Int32, _ newName: [UInt8],
    flags: RenameFlags = []
  ) throws(Errno) {
    _ = try withName(oldName) { old throws(Errno) in
      try withName(newName) { new throws(Errno) in
        try retry { scrim_renameat2(oldDirectory, old, newDirectory, new, flags.rawValue) }
      }
    }
  }

  /// linkat(2) of a name; a symbolic link is linked itself.
  public static func linkat(
    _ oldDirectory: Int32, _ oldName: [UInt8], _ newDirectory: Int32, _ newName: [UInt8]
  ) throws(Errno) {
    _ = try withName(oldName) { old throws(Errno) in
      try withName(newName) { new throws(Errno) in
        try retry { Glibc.linkat(oldDirectory, old, newDirectory, new, 0) }
      }
    }
  }

  /// linkat(2) of what a descriptor stands for, one from O_PATH or O_TMPFILE included.
  public static func link(
    _ descriptor: Int32, to directory: Int32, _ name: [UInt8]
  ) throws(Errno) {
    _ = try withName(name) { name throws(Errno) in
      try retry { scrim_link_descriptor(descriptor, directory, name) }
    }
  }

  /// symlinkat(2).
  public static func symlinkat(
    target: [UInt8], _ directory: Int32, _ name: [UInt8]
  ) throws(Errno) {
    _ = try withName(target) { target throws(Errno) in
      try withName(name) { name throws(Errno) in
        try retry { Glibc.symlinkat(target, directory, name) }
      }
    }
  }

  /// readlinkat(2), the whole target. An empty name reads the link an O_PATH descriptor stands for.
  public static func readlinkat(_ directory: Int32, _ name: [UInt8]) throws(Errno) -> [UInt8] {
    var target = [UInt8](repeating: 0, count: 256)
    while true {
      let count = try withName(name) { name throws(Errno) in
        try retry {
          target.withUnsafeMutableBytes { bytes in
            guard let start = bytes.baseAddress else { return 0 }
            return Glibc.readlinkat(
              directory, name, start.assumingMemoryBound(to: CChar.self), bytes.count)
          }
        }
      }
      if count < target.count {
        target.removeLast(target.count - count)
        return target
      }
      // A full buffer may have cut the target off.
      target = [UInt8](repeating: 0, count: target.count * 4)
    }
  }

  /// faccessat2(2) with the thread's filesystem IDs, not following a symbolic link.
  ///
  /// - Parameters:
  ///   - directory: Where relative names start; with an empty name the file itself.
  ///   - name: One component or a path.
  ///   - mode: R_OK, W_OK, X_OK bits, or F_OK.
  /// - Throws: The call's error.
  public static func faccessat(
    _ directory: Int32, _ name: [UInt8], mode: Int32
  ) throws(Errno) {
    let flags = AT_EACCESS | AT_SYMLINK_NOFOLLOW | (name.isEmpty ? scrim_AT_EMPTY_PATH : 0)
    _ = try withName(name) { name throws(Errno) in
      try retry { scrim_faccessat2(directory, name, mode, flags) }
    }
  }
}
