import CFuse
import Container
import Glibc
import Primitives
import SystemPackage
import Synchronization
import Vault

/// A directory opened for listing.
///
/// The kernel's cookies are the backing directory's own, so a position stays valid while entries come and
/// go: what was there throughout is listed once. The entries of one buffer are kept between two
/// requests; a request for another position starts anew from there.
final class OpenDirectory: Sendable {
  private struct Position {
    var stream: DirectoryStream
    /// The cookie after the last entry that was taken.
    var cookie: Int64
    /// An entry that did not fit into the last reply.
    var pending: DirectoryStream.Item?
  }

  let inode: Inode
  let directory: VaultDirectory
  private let position: Mutex<Position>

  init(_ inode: Inode, _ directory: VaultDirectory) throws {
    self.inode = inode
    self.directory = directory
    position = Mutex(Position(stream: try directory.openStream(), cookie: 0, pending: nil))
  }

  /// Calls `take` with one entry after another from `cookie` on, until it takes one no more or there are
  /// no more. Cookie 0 is the beginning, as the directory is now.
  func list(from cookie: Int64, _ take: (DirectoryStream.Item) throws -> Bool) throws {
    try position.withLock { position in
      if cookie != position.cookie || cookie == 0 {
        try position.stream.seek(to: cookie)
        position.cookie = cookie
        position.pending = nil
      }
      while let item = try position.pending ?? position.stream.next() {
        var isTaken = false
        defer { if !isTaken { position.pending = item } }
        guard try take(item) else { return }
        isTaken = true
        position.pending = nil
        position.cookie = item.cookie
      }
    }
  }
}

extension FileSystem {
  /// OPENDIR.
  func openDirectory(_ nodeid: UInt64) throws -> (handle: UInt64, flags: OpenFlags) {
    let inode = try inode(nodeid)
    let directory = try directory(inode)
    let handle = handles.insert(try OpenDirectory(inode, directory))
    let isOurs = !directory.isNative && !isReadOnly
    return (handle, isOurs ? [.cacheDirectory, .keepCache] : [])
  }

  private func stream(_ handle: UInt64) throws -> OpenDirectory {
    guard let stream = handles.find(handle) else { throw MountFailure.badHandle }
    return stream
  }

  /// READDIR into `buffer`.
  ///
  /// - Returns: bytes filled; 0 at the end.
  func list(
    _ request: fuse_req_t, _ handle: UInt64, from cookie: Int64,
    into buffer: UnsafeMutableBufferPointer<CChar>
  ) throws -> Int {
    let stream = try stream(handle)
    var filled = 0
    try stream.list(from: cookie) { item in
      var attributes = Glibc.stat()
      attributes.st_ino = ino_t(item.inode)
      attributes.st_mode = UInt32(item.kind.rawValue) << 12
      let room = buffer.count - filled
      let size = withName(item.name) { name in
        fuse_add_direntry(
          request, buffer.baseAddress.map { $0 + filled }, room, name, &attributes,
          off_t(item.cookie))
      }
      guard size <= room else { return false }
      filled += size
      return true
    }
    return filled
  }

  /// READDIRPLUS into `buffer`: every entry but the dots is looked up too.
  ///
  /// `known` takes the inodes that the reply hands over; they must be forgotten if it fails. The result
  /// is the bytes filled, 0 at the end.
  func listWithAttributes(
    _ request: fuse_req_t, _ handle: UInt64, from cookie: Int64,
    into buffer: UnsafeMutableBufferPointer<CChar>, known: inout [UInt64]
  ) throws -> Int {
    let stream = try stream(handle)
    var filled = 0
    var entered: [UInt64] = []
    defer { known = entered }
    try stream.list(from: cookie) { item in
      let room = buffer.count - filled
      // Asked before the lookup: an entry that does not fit must not be looked up in vain.
      guard Self.plusSize(item.name.count) <= room else { return false }
      guard var parameters = try describe(item, in: stream) else { return true }
      let size = withName(item.name) { name in
        fuse_add_direntry_plus(
          request, buffer.baseAddress.map { $0 + filled }, room, name, &parameters,
          off_t(item.cookie))
      }
      if parameters.ino != 0 { entered.append(UInt64(parameters.ino)) }
      filled += size
      return true
    }
    return filled
  }

  /// `struct fuse_direntplus`: 128 bytes of entry, 24 of directory entry, the name, padded to 8.
  private static func plusSize(_ nameLength: Int) -> Int { (128 + 24 + nameLength + 7) & ~7 }

  /// The lookup of a listed entry; nil when it vanished meanwhile. A damaged one is listed without
  /// attributes, so that the others can be seen.
  private func describe(
    _ item: DirectoryStream.Item, in stream: OpenDirectory
  ) throws -> fuse_entry_param? {
    var bare = fuse_entry_param()
    bare.attr.st_ino = ino_t(item.inode)
    bare.attr.st_mode = UInt32(item.kind.rawValue) << 12
    guard item.entryKind != nil else { return bare }
    do {
      guard let entry = try stream.directory.lookup(item.name) else { return nil }
      return try enter(entry, item.name, in: stream.directory, stream.inode).parameters
    } catch {
      report(error, stream.inode, name: item.name)
      return bare
    }
  }

  private func withName<R>(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> R) -> R {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: name.count + 1) { copy in
      name.withUnsafeBytes { UnsafeMutableRawBufferPointer(copy).copyMemory(from: $0) }
      copy[name.count] = 0
      // SAFETY: a temporary allocation of at least one element has an address.
      return body(UnsafePointer(copy.baseAddress.unsafelyUnwrapped))
    }
  }

  /// FSYNCDIR: the entries and the record.
  func syncDirectory(_ nodeid: UInt64) throws {
    let directory = try directory(try inode(nodeid))
    try directory.sync()
  }
}
