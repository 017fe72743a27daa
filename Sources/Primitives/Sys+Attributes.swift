import CLinux
import Glibc
import SystemPackage

/// Changing owner, mode, times and extended attributes. Functions with `Path` in the name also
/// take descriptors from O_PATH and work through /proc/self/fd.
extension Sys {
  /// utimensat(2) of a name, not following a symbolic link.
  public static func utimensat(
    _ directory: Int32, _ name: [UInt8], access: TimeUpdate, modification: TimeUpdate
  ) throws(Errno) {
    _ = try withName(name) { name throws(Errno) in
      try retry {
        scrim_utimens(directory, name, AT_SYMLINK_NOFOLLOW, access.raw, modification.raw)
      }
    }
  }

  /// futimens(3); also takes a descriptor from O_PATH, with Linux 5.8 or later.
  public static func futimens(
    _ descriptor: Int32, access: TimeUpdate, modification: TimeUpdate
  ) throws(Errno) {
    _ = try retry { scrim_utimens(descriptor, nil, 0, access.raw, modification.raw) }
  }

  /// fchownat(2), not following a symbolic link. An empty name changes what the descriptor stands
  /// for, one from O_PATH included.
  ///
  /// - Parameters:
  ///   - directory: Where relative names start.
  ///   - name: One component, a path, or nothing.
  ///   - uid: The new owner, nil to leave it.
  ///   - gid: The new group, nil to leave it.
  /// - Throws: The call's error.
  public static func fchownat(
    _ directory: Int32, _ name: [UInt8] = [], uid: UInt32?, gid: UInt32?
  ) throws(Errno) {
    let flags = AT_SYMLINK_NOFOLLOW | (name.isEmpty ? scrim_AT_EMPTY_PATH : 0)
    _ = try withName(name) { name throws(Errno) in
      try retry { Glibc.fchownat(directory, name, uid ?? UInt32.max, gid ?? UInt32.max, flags) }
    }
  }

  /// getxattr(2) by a thread of its own that is another user, which only root can.
  ///
  /// - Parameters:
  ///   - path: From the root; links are followed.
  ///   - attribute: The attribute's full name.
  ///   - uid: Who asks.
  ///   - gid: With which group.
  /// - Returns: At most 64 KiB.
  /// - Throws: What getxattr(2) gave.
  public static func getxattr(
    _ path: [UInt8], _ attribute: [UInt8], asUser uid: UInt32, group gid: UInt32
  ) throws(Errno) -> [UInt8] {
    var value = [UInt8](repeating: 0, count: 1 << 16)
    let size = value.count
    let count = try withName(path) { path throws(Errno) in
      try withName(attribute) { attribute throws(Errno) in
        scrim_getxattr_as(uid, gid, path, attribute, &value, size)
      }
    }
    guard count >= 0 else { throw Errno(rawValue: Int32(-count)) }
    value.removeLast(value.count - count)
    return value
  }

  /// fchmod(2).
  public static func fchmod(_ descriptor: Int32, mode: UInt32) throws(Errno) {
    _ = try retry { Glibc.fchmod(descriptor, mode) }
  }

  /// chmod(2) of what a descriptor stands for, one from O_PATH included.
  public static func chmodPath(_ descriptor: Int32, mode: UInt32) throws(Errno) {
    _ = try retry { scrim_chmod_descriptor(descriptor, mode) }
  }

  /// How setting an extended attribute treats one that exists.
  public enum AttributeMode: Int32, Sendable {
    /// Creates or replaces.
    case any = 0
    /// Fails with EEXIST where it exists.
    case createOnly = 1
    /// Fails with ENODATA where it does not.
    case replaceOnly = 2
  }

  /// fgetxattr(2) into the caller's buffer.
  ///
  /// - Returns: Length of the value in bytes. With an empty buffer nothing is copied.
  public static func fgetxattr(
    _ descriptor: Int32, _ name: [UInt8], into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try withName(name) { name throws(Errno) in
      try retry { scrim_fgetxattr(descriptor, name, buffer.baseAddress, buffer.count) }
    }
  }

  /// fgetxattr(2), the whole value.
  public static func fgetxattr(_ descriptor: Int32, _ name: [UInt8]) throws(Errno) -> [UInt8] {
    try wholeValue { buffer throws(Errno) in
      try fgetxattr(descriptor, name, into: buffer)
    }
  }

  /// fsetxattr(2).
  public static func fsetxattr(
    _ descriptor: Int32, _ name: [UInt8], _ value: UnsafeRawBufferPointer,
    mode: AttributeMode = .any
  ) throws(Errno) {
    _ = try withName(name) { name throws(Errno) in
      try retry {
        scrim_fsetxattr(descriptor, name, value.baseAddress, value.count, mode.rawValue)
      }
    }
  }

  /// fsetxattr(2).
  public static func fsetxattr(
    _ descriptor: Int32, _ name: [UInt8], _ value: [UInt8], mode: AttributeMode = .any
  ) throws(Errno) {
    try withBytes(value) { value throws(Errno) in
      try fsetxattr(descriptor, name, value, mode: mode)
    }
  }

  /// flistxattr(2): the names, each ended by a zero byte.
  public static func flistxattr(_ descriptor: Int32) throws(Errno) -> [UInt8] {
    try wholeValue { buffer throws(Errno) in
      try retry {
        scrim_flistxattr(
          descriptor, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count)
      }
    }
  }

  /// fremovexattr(2).
  public static func fremovexattr(_ descriptor: Int32, _ name: [UInt8]) throws(Errno) {
    _ = try withName(name) { name throws(Errno) in
      try retry { scrim_fremovexattr(descriptor, name) }
    }
  }

  /// getxattr(2) into the caller's buffer, of what a descriptor from O_PATH stands for.
  ///
  /// - Returns: Length of the value in bytes. With an empty buffer nothing is copied.
  public static func getxattrPath(
    _ descriptor: Int32, _ name: [UInt8], into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try withName(name) { name throws(Errno) in
      try retry { scrim_getxattr_descriptor(descriptor, name, buffer.baseAddress, buffer.count) }
    }
  }

  /// getxattr(2), the whole value, of what a descriptor from O_PATH stands for.
  public static func getxattrPath(_ descriptor: Int32, _ name: [UInt8]) throws(Errno) -> [UInt8] {
    try wholeValue { buffer throws(Errno) in
      try getxattrPath(descriptor, name, into: buffer)
    }
  }

  /// setxattr(2) on what a descriptor from O_PATH stands for.
  public static func setxattrPath(
    _ descriptor: Int32, _ name: [UInt8], _ value: [UInt8], mode: AttributeMode = .any
  ) throws(Errno) {
    try withBytes(value) { value throws(Errno) in
      _ = try withName(name) { name throws(Errno) in
        try retry {
          scrim_setxattr_descriptor(
            descriptor, name, value.baseAddress, value.count, mode.rawValue)
        }
      }
    }
  }

  /// listxattr(2) of what a descriptor from O_PATH stands for: names, each ended by a zero byte.
  public static func listxattrPath(_ descriptor: Int32) throws(Errno) -> [UInt8] {
    try wholeValue { buffer throws(Errno) in
      try retry {
        scrim_listxattr_descriptor(
          descriptor, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count)
      }
    }
  }

  /// removexattr(2) on what a descriptor from O_PATH stands for.
  public static func removexattrPath(_ descriptor: Int32, _ name: [UInt8]) throws(Errno) {
    _ = try withName(name) { name throws(Errno) in
      try retry { scrim_removexattr_descriptor(descriptor, name) }
    }
  }

  /// Calls until the buffer is large enough; the value may grow between two calls.
  private static func wholeValue(
    _ call: (UnsafeMutableRawBufferPointer) throws(Errno) -> Int
  ) throws(Errno) -> [UInt8] {
    var capacity = 256
    while true {
      do throws(Errno) {
        var value = [UInt8](repeating: 0, count: capacity)
        let result = value.withUnsafeMutableBytes { buffer -> Result<Int, Errno> in
          do throws(Errno) { return .success(try call(buffer)) } catch { return .failure(error) }
        }
        value.removeLast(capacity - (try result.get()))
        return value
      } catch .outOfRange where capacity < 65536 {
        // XATTR_SIZE_MAX is 64 KiB.
        capacity *= 16
      }
    }
  }

  private static func withBytes(
    _ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(Errno) -> Void
  ) throws(Errno) {
    let result = bytes.withUnsafeBytes { buffer -> Result<Void, Errno> in
      do throws(Errno) { return .success(try body(buffer)) } catch { return .failure(error) }
    }
    try result.get()
  }
}
