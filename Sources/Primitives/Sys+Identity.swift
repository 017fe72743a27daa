import CLinux
import Glibc
import SystemPackage

/// Who this process is, and attributes by directory and name.
extension Sys {
  /// geteuid(2).
  public static var effectiveUserID: UInt32 { geteuid() }

  /// getegid(2).
  public static var effectiveGroupID: UInt32 { getegid() }

  /// getpid(2).
  public static var processID: Int32 { getpid() }

  /// gethostname(2), or nothing if it fails.
  public static var hostName: [UInt8] {
    var name = [UInt8](repeating: 0, count: 256)
    let result = name.withUnsafeMutableBytes { bytes -> Int32 in
      guard let start = bytes.baseAddress else { return -1 }
      return gethostname(start.assumingMemoryBound(to: CChar.self), bytes.count)
    }
    return result == 0 ? Array(name.prefix { $0 != 0 }) : []
  }

  /// lgetxattr(2) of an entry of a directory in one call, through /proc/self/fd; a symbolic link is
  /// not followed.
  ///
  /// - Parameters:
  ///   - directory: A directory's descriptor, one from O_PATH included.
  ///   - name: One component.
  ///   - attribute: The attribute's full name.
  ///   - buffer: Where the value goes.
  /// - Returns: Length of the value in bytes.
  /// - Throws: What lgetxattr(2) gave.
  public static func getxattrAt(
    _ directory: Int32, _ name: [UInt8], _ attribute: [UInt8],
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try withName(name) { name throws(Errno) in
      try withName(attribute) { attribute throws(Errno) in
        try retry {
          scrim_getxattr_at(directory, name, attribute, buffer.baseAddress, buffer.count)
        }
      }
    }
  }
}
