import Glibc
import Primitives
import SystemPackage

/// A new empty directory, removed with everything in it when the last reference goes.
public final class TemporaryDirectory: Sendable {
  /// The absolute path.
  public let path: String
  /// A descriptor of the directory, open for reading.
  public let descriptor: SharedFD

  /// Where to make the directory.
  public enum Place: Sendable {
    /// In memory: fast, but without user extended attributes before Linux 6.6.
    case memory
    /// On the disk behind /tmp.
    case disk
  }

  /// Makes the directory; `place` falls back to /tmp where there is no /dev/shm.
  public init(_ place: Place = .memory) throws(Errno) {
    var made: String?
    for parent in place == .memory ? ["/dev/shm", "/tmp"] : ["/tmp"] where made == nil {
      var template = Array("\(parent)/scrim-test-XXXXXX".utf8CString)
      made = template.withUnsafeMutableBufferPointer { text in
        guard let start = text.baseAddress, mkdtemp(start) != nil else { return nil }
        return String(cString: start)
      }
    }
    guard let made else { throw Errno(rawValue: errno) }
    path = made
    descriptor = SharedFD(
      try Sys.openat(Sys.currentDirectory, [UInt8](made.utf8), [.readOnly, .directory]))
  }

  deinit {
    TemporaryDirectory.removeContents(of: descriptor.rawValue)
    try? Sys.unlinkat(Sys.currentDirectory, [UInt8](path.utf8), isDirectory: true)
  }

  /// The absolute path of something in the directory.
  public func path(_ name: String) -> String { "\(path)/\(name)" }

  /// Makes a file in the directory.
  ///
  /// - Returns: A descriptor for reading and writing.
  public func makeFile(_ name: String, _ content: [UInt8] = []) throws(Errno) -> OwnedFD {
    let file = try Sys.openat(
      descriptor.rawValue, [UInt8](name.utf8), [.readWrite, .create, .truncate], mode: 0o600)
    let number = file.rawValue
    let result = content.withUnsafeBytes { content -> Result<Void, Errno> in
      do throws(Errno) {
        return .success(try Sys.pwrite(number, content, at: 0))
      } catch {
        return .failure(error)
      }
    }
    try result.get()
    return file
  }

  /// The whole content of a file in the directory.
  public func contents(_ name: String) throws(Errno) -> [UInt8] {
    let file = try Sys.openat(descriptor.rawValue, [UInt8](name.utf8), [.readOnly, .noFollow])
    let number = file.rawValue
    var content = [UInt8](repeating: 0, count: Int(try Sys.fstatx(number, fields: .size).size))
    let result = content.withUnsafeMutableBytes { buffer -> Result<Int, Errno> in
      do throws(Errno) {
        return .success(try Sys.pread(number, buffer, at: 0))
      } catch {
        return .failure(error)
      }
    }
    content.removeLast(content.count - (try result.get()))
    return content
  }

  /// Removes what it can: a test that left something busy behind fails elsewhere.
  private static func removeContents(of directory: Int32) {
    guard let entries = try? Sys.entries(of: directory) else { return }
    for entry in entries {
      if (try? Sys.unlinkat(directory, entry.name)) != nil { continue }
      if let child = try? Sys.openat(directory, entry.name, [.readOnly, .directory, .noFollow]) {
        removeContents(of: child.rawValue)
      }
      try? Sys.unlinkat(directory, entry.name, isDirectory: true)
    }
  }
}
