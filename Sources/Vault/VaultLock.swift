import Primitives
import SystemPackage

/// The advisory lock of the one writer a vault may have (format §2).
struct VaultLock: Sendable {
  /// Keeps the lock, which belongs to the open file description.
  let descriptor: SharedFD
  /// What its owner should know: the filesystem may have no locks.
  let notice: String?

  /// The writer of the data.
  static let writer = RecordLock(.exclusive, start: 0, length: 1)
  /// Whoever replaces the header; a mounted vault does not stop that.
  static let headerEditor = RecordLock(.exclusive, start: 1, length: 1)

  /// Takes the lock, waiting for a process of this machine that has it while `isLeaving` says so.
  static func acquireWriter(
    in vault: Int32, isLeaving: (Int32) -> Bool = { _ in false }
  ) throws(VaultError) -> VaultLock {
    let descriptor = try open(in: vault)
    var notice: String?
    do {
      try lock(descriptor.rawValue, isLeaving)
    } catch .resourceTemporarilyUnavailable {
      throw .locked(holder: holder(descriptor.rawValue).text)
    } catch .noLocks {
      notice = unprotected
    } catch .notSupported {
      notice = unprotected
    } catch .noFunction {
      notice = unprotected
    } catch .invalidArgument {
      notice = unprotected
    } catch {
      throw .system(error, "locking scrim.lock")
    }
    // The text only serves messages: a lock that is held matters, not what the file says.
    let host = String(decoding: Sys.hostName, as: UTF8.self)
    let text = [UInt8]("\(Sys.processID) \(host)\n".utf8)
    try? Sys.ftruncate(descriptor.rawValue, size: 0)
    try? text.withUnsafeBytesTyped { (buffer) throws(Errno) in
      try Sys.pwrite(descriptor.rawValue, buffer, at: 0)
    }
    return VaultLock(descriptor: descriptor, notice: notice)
  }

  private static func lock(_ descriptor: Int32, _ isLeaving: (Int32) -> Bool) throws(Errno) {
    while true {
      do throws(Errno) {
        return try Sys.setLock(descriptor, writer)
      } catch .resourceTemporarilyUnavailable, .permissionDenied {
        // POSIX lets a lock that is held fail with either error.
        guard let process = holder(descriptor).process, isLeaving(process) else {
          throw .resourceTemporarilyUnavailable
        }
      }
    }
  }

  /// Waits for whoever edits the header now; without locks there is nothing to wait for.
  static func acquireHeaderEditor(in vault: Int32) throws(VaultError) -> VaultLock {
    let descriptor = try open(in: vault)
    try? Sys.setLock(descriptor.rawValue, headerEditor, wait: true)
    return VaultLock(descriptor: descriptor, notice: nil)
  }

  private static let unprotected =
    "the backing filesystem has no file locks: a second writer would not be noticed"

  private static func open(in vault: Int32) throws(VaultError) -> SharedFD {
    try attempt("opening scrim.lock") { () throws(Errno) in
      SharedFD(
        try Sys.openat(
          vault, Format.lockName, [.readWrite, .create, .noFollow], mode: 0o600))
    }
  }

  /// Who has the lock, by what it wrote: words for a message, and the process if it is one of this machine.
  private static func holder(_ descriptor: Int32) -> (text: String, process: Int32?) {
    guard let bytes = try? readWhole(descriptor, limit: 512) else { return ("unknown", nil) }
    let words = bytes.prefix { $0 != UInt8(ascii: "\n") }.split(separator: UInt8(ascii: " "))
    guard words.count == 2 else { return ("unknown", nil) }
    let (id, host) = (String(decoding: words[0], as: UTF8.self), Array(words[1]))
    let text = "process \(id) on \(String(decoding: host, as: UTF8.self))"
    return (text, host == Sys.hostName ? Int32(id) : nil)
  }
}
