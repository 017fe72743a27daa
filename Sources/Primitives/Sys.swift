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
      guard let start = copy.baseAddress else { return .failure(.invalidArgument) }
      name.withUnsafeBytes { UnsafeMutableRawBufferPointer(copy).copyMemory(from: $0) }
      copy[name.count] = 0
      let text = UnsafeRawPointer(start).assumingMemoryBound(to: CChar.self)
      // A cut-off name would be a different file.
      guard strlen(text) == name.count else { return .failure(.invalidArgument) }
      do throws(Errno) {
        return .success(try body(text))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
