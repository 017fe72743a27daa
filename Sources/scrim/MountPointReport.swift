import Glibc
import Mount
import Primitives

/// What the daemon says about itself: the value of the attribute `user.scrim.status` of a mount's
/// root, which is also what `scrim status --json` prints.
struct MountPointReport: Decodable {
  struct Passthrough: Decodable {
    let state: String
    let reason: String?
    let opens: UInt64
    let backingFiles: UInt64?
  }

  struct Transport: Decodable {
    let kind: String
    let threads: Int?
    let reason: String?
  }

  struct Counters: Decodable {
    let opens: UInt64
    let reads: UInt64
    let writes: UInt64
    let bytesRead: UInt64
    let bytesWritten: UInt64
    let userspaceReads: UInt64?
    let userspaceWrites: UInt64?
  }

  struct Cache: Decodable {
    let hits: UInt64
    let misses: UInt64
  }

  struct Caches: Decodable {
    let blocks: Cache
    let names: Cache
  }

  struct OpenFile: Decodable {
    let path: String
    let backing: String
    let mode: String
    let opens: Int
  }

  let vault: String
  let mountpoint: String
  let pid: Int32
  let readOnly: Bool
  let passthrough: Passthrough
  let transport: Transport
  let plain: Counters
  let sealed: Counters
  let compressed: Counters
  let sealedCompressed: Counters
  let requests: UInt64?
  let caches: Caches?
  let openFiles: [OpenFile]
  let openFilesTotal: Int?
  let inodes: UInt64?
  let integrityFailures: UInt64?
}

/// Asking a mount's daemon through attributes of the mount.
enum MountAttribute {
  static let status = Array("user.scrim.status".utf8)
  static let policy = Array("user.scrim.policy".utf8)
  static let path = Array("user.scrim.path".utf8)
  static let rules = Array("user.scrim.rules".utf8)
  static let mode = Array("user.scrim.mode".utf8)
  static let convert = Array("user.scrim.convert".utf8)

  /// The raw JSON of a mount's status.
  static func readStatus(of mountPoint: PathArgument) throws(Failure) -> [UInt8] {
    let directory = open(mountPoint.terminated, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    let code = errno
    if directory < 0, code == EACCES, let status = try readStatusAsOwner(of: mountPoint) {
      return status
    }
    guard directory >= 0 else {
      throw Failure(openFailure(code), "\(mountPoint.text): \(openReason(code))")
    }
    defer { close(directory) }
    if try MountTable.isInScrimMount(directory) {
      if let status = try? Sys.fgetxattr(directory, status) { return status }
    }
    throw try NotMounted.on(mountPoint)
  }

  /// A mount of somebody else's lets nobody in but them; root may become them to ask.
  private static func readStatusAsOwner(of mountPoint: PathArgument) throws(Failure) -> [UInt8]? {
    guard geteuid() == 0, let entry = try MountTable.scrimMount(at: mountPoint.absolute),
      let owner = entry.owner, let group = entry.group
    else { return nil }
    return try? Sys.getxattr(entry.point, status, asUser: owner, group: group)
  }

  static func openFailure(_ code: Int32) -> Exit {
    switch code {
    case ENOENT: .notFound
    case ENOTDIR: .notMounted
    case _ where MountPoint.meansDead(code): .notMounted
    default: .system
    }
  }

  static func openReason(_ code: Int32) -> String {
    MountPoint.meansDead(code)
      ? "the daemon of this mount is gone; 'scrim umount' clears it" : Output.errnoText(code)
  }
}
