import CLinux
import Glibc
import SystemPackage

/// System calls: a failure throws its `Errno`, EINTR is retried.
///
/// Names are bytes without a terminating zero; a zero inside one is `.invalidArgument`. Where a
/// call takes a directory descriptor, `Sys.currentDirectory` stands for the working directory.
public enum Sys {
  /// AT_FDCWD.
  public static let currentDirectory: Int32 = AT_FDCWD

  /// Runs a call until it is not interrupted; errno is read before anything else can change it.
  @inline(__always)
  static func retry<T: FixedWidthInteger>(_ call: () -> T) throws(Errno) -> T {
    while true {
      let result = call()
      if result != -1 { return result }
      let error = errno
      if error != EINTR { throw Errno(rawValue: error) }
    }
  }

  /// Lends a name as a C string for the length of a call; no heap below 1 KiB.
  @inline(__always)
  static func withName<R: ~Copyable>(
    _ name: [UInt8], _ body: (UnsafePointer<CChar>) throws(Errno) -> R
  ) throws(Errno) -> R {
    let result = withUnsafeTemporaryAllocation(of: UInt8.self, capacity: name.count + 1) {
      copy -> Result<R, Errno> in
      var end = 0
      for byte in name {
        // A cut-off name would be a different file.
        if byte == 0 { return .failure(.invalidArgument) }
        copy[end] = byte
        end += 1
      }
      copy[end] = 0
      guard let start = copy.baseAddress else { return .failure(.invalidArgument) }
      do throws(Errno) {
        return .success(try body(UnsafeRawPointer(start).assumingMemoryBound(to: CChar.self)))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
