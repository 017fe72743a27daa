import CFuse
import Container
import Glibc
import Synchronization
import Vault

/// Who asks.
struct Caller {
  let uid: UInt32
  let gid: UInt32
  let umask: UInt32

  init(uid: UInt32, gid: UInt32, umask: UInt32) {
    self.uid = uid
    self.gid = gid
    self.umask = umask
  }

  init(_ request: fuse_req_t) {
    // SAFETY: libfuse keeps the context inside the request, which is alive until its reply.
    let context = fuse_req_ctx(request).pointee
    uid = context.uid
    gid = context.gid
    umask = context.umask
  }

  /// Whether the caller is root, or in a group by its own or a supplementary group ID.
  func isMember(of group: UInt32, _ request: fuse_req_t) -> Bool {
    if uid == 0 || gid == group { return true }
    var groups = [gid_t](repeating: 0, count: 64)
    var count = fuse_req_getgroups(request, Int32(groups.count), &groups)
    if count > groups.count {
      groups = [gid_t](repeating: 0, count: Int(count))
      count = min(fuse_req_getgroups(request, count, &groups), Int32(groups.count))
    }
    return count > 0 && groups.prefix(Int(count)).contains(group)
  }
}

/// Someone who changes a file, and with it perhaps its set-ID bits.
struct Writer {
  let caller: Caller
  /// Tells the supplementary groups, until it is answered.
  private let request: fuse_req_t

  init(_ request: fuse_req_t) {
    caller = Caller(request)
    self.request = request
  }

  /// The one behind a request by which the kernel asks (HANDLE_KILLPRIV_V2) to take suid and sgid off after a write
  /// or a truncation; nil where it does not.
  static func withoutPrivileges(_ request: fuse_req_t) -> Writer? {
    RequestContext.killsPrivileges ? Writer(request) : nil
  }

  /// Whether sgid stays on a file of this group that is no program.
  func isMember(of group: UInt32) -> Bool { caller.isMember(of: group, request) }
}

/// The common frame of every operation: find the file system, do it, answer.
///
/// Operations return what is to be answered and have dropped all locks by then. Nothing here is
/// allocated: the closures do not escape.
enum Dispatch {
  /// The file system a request is for.
  @inline(__always)
  static func fileSystem(_ request: fuse_req_t) -> FileSystem? {
    guard let userdata = fuse_req_userdata(request) else { return nil }
    // SAFETY: `Mount.run` holds the file system until the session has ended.
    return Unmanaged<FileSystem>.fromOpaque(userdata).takeUnretainedValue()
  }

  /// Runs an operation that answers by itself on success.
  @inline(__always)
  static func serve(
    _ request: fuse_req_t?, _ nodeid: UInt64, name: UnsafePointer<CChar>? = nil,
    _ body: (FileSystem, fuse_req_t) throws -> Void
  ) {
    guard let request, let fileSystem = fileSystem(request) else { return }
    fileSystem.activity.note()
    fileSystem.counters.requests.wrappingAdd(1, ordering: .relaxed)
    guard !fileSystem.isRootsAlone || isRoots(request) else {
      fuse_reply_err(request, EACCES)
      return
    }
    do {
      try body(fileSystem, request)
    } catch {
      fail(fileSystem, request, nodeid, name, error)
    }
  }

  /// Whether a request is made with root's identity, or for what is open already.
  ///
  /// The kernel lets a process in by its user IDs, but a file server of root's acts for others with its filesystem user
  /// ID (setfsuid(2)), which is the one that permissions go by.
  @inline(__always)
  private static func isRoots(_ request: fuse_req_t) -> Bool {
    // SAFETY: libfuse keeps the context inside the request, which is alive until its reply.
    fuse_req_ctx(request).pointee.uid == 0 || RequestContext.isOnHandle
  }

  /// Runs an operation whose success has nothing to tell.
  @inline(__always)
  static func perform(
    _ request: fuse_req_t?, _ nodeid: UInt64, name: UnsafePointer<CChar>? = nil,
    _ body: (FileSystem, fuse_req_t) throws -> Void
  ) {
    serve(request, nodeid, name: name) { fileSystem, request in
      try body(fileSystem, request)
      fuse_reply_err(request, 0)
    }
  }

  @inline(never)
  private static func fail(
    _ fileSystem: FileSystem, _ request: fuse_req_t, _ nodeid: UInt64,
    _ name: UnsafePointer<CChar>?, _ error: any Error
  ) {
    if ErrnoMap.isIntegrityFailure(error) {
      let plainName = try? text(name)
      fileSystem.report(error, fileSystem.table.inode(nodeid), name: plainName)
    }
    fuse_reply_err(request, ErrnoMap.errno(error))
  }

  /// A name from the kernel, which does not check its length.
  static func name(_ pointer: UnsafePointer<CChar>?) throws -> [UInt8] {
    guard let pointer else { throw MountFailure.invalid }
    let length = strlen(pointer)
    guard length > 0 else { throw MountFailure.notFound }
    guard length <= 255 else { throw MountFailure.nameTooLong }
    // SAFETY: the kernel ends names with a zero byte, and libfuse checked that it did.
    return pointer.withMemoryRebound(to: UInt8.self, capacity: length) {
      [UInt8](UnsafeBufferPointer(start: $0, count: length))
    }
  }

  /// A text of any length from the kernel, such as a link's target.
  static func text(_ pointer: UnsafePointer<CChar>?) throws -> [UInt8] {
    guard let pointer else { throw MountFailure.invalid }
    let length = strlen(pointer)
    // SAFETY: as above.
    return pointer.withMemoryRebound(to: UInt8.self, capacity: max(length, 1)) {
      [UInt8](UnsafeBufferPointer(start: $0, count: length))
    }
  }

  /// Answers with an entry, or with none, which the kernel may remember for a while.
  static func reply(_ fileSystem: FileSystem, _ request: fuse_req_t, _ entry: Entry) {
    var parameters = entry.parameters
    // Interrupted: the kernel does not know of this lookup and will not forget it.
    if fuse_reply_entry(request, &parameters) == -ENOENT, parameters.ino != 0 {
      fileSystem.table.forget(UInt64(parameters.ino), count: 1)
    }
  }
}
