import CFuse
import Glibc
import Logging
import Primitives
import Synchronization
import SystemPackage

/// Why serving ended.
public enum SessionEnd: Sendable, Equatable {
  /// Somebody unmounted, or the connection was aborted.
  case unmounted
  /// This process got a termination signal and unmounted.
  case signalled(Int32)
  /// ``Session/stop()`` was called.
  case stopped
}

/// One mount: made by `init`, served by ``run(handlingSignals:onReady:)``, gone when that returns.
///
/// Unchecked: `state` carries its own lock, everything else is set before a thread starts or is atomic.
public final class Session: @unchecked Sendable {
  struct State {
    var offer: InitOffer?
    var negotiated: Negotiated?
    var end: SessionEnd?
    var serving = 0
  }

  /// Backing IDs of plain inodes open on this mount.
  public let backing = BackingRegistry()
  /// The absolute path of the mount point.
  public let mountPoint: String

  let options: SessionOptions
  let logger: Logger
  /// libfuse's session. It has its own lock.
  let session: OpaquePointer
  /// The descriptor of /dev/fuse.
  let device: Int32
  let hasReadDirPlus: Bool
  /// The file that sets the mount's read-ahead, opened while that is allowed.
  let readAhead: SharedFD?
  let state = Monitor(State())
  let stopping = Atomic<Bool>(false)
  /// Whether requests come over rings.
  let isOverRings = Atomic<Bool>(false)
  let destroyed = Atomic<Bool>(false)
  /// Both are set by the first worker before `state` has the negotiated result, and then left alone.
  var rings: RingTransport?
  var ringRefusal: String?

  /// Mounts `path`.
  ///
  /// - Parameters:
  ///   - path: the mount point, a directory.
  ///   - options: see there.
  ///   - operations: handlers, each of which answers its request before it returns, on the same thread.
  ///   - userdata: what handlers get from `fuse_req_userdata`; kept alive by the caller until the session ends.
  ///   - logger: for this session, and for libfuse's messages.
  /// - Throws: `MountError`, with nothing left mounted.
  public init(
    mountPoint path: String, options: SessionOptions, operations: fuse_lowlevel_ops,
    userdata: UnsafeMutableRawPointer?, logger: Logger
  ) throws(MountError) {
    let argument = try options.mountArgument()
    try options.servant?.check(reaches: path)
    self.options = options
    self.logger = logger
    hasReadDirPlus = operations.readdirplus != nil
    LibraryLog.install(logger)
    let mount = { () throws(MountError) -> Mounted in
      let point = try MountPoint.check(path, options: options)
      let session = try Self.create(argument, operations, userdata)
      let (mounted, said) = HelperOutput.gathering { fuse_session_mount(session, point) == 0 }
      guard mounted else {
        fuse_session_destroy(session)
        throw .refused(said ?? LibraryLog.last ?? "libfuse gave no reason")
      }
      return Mounted(point: point, session: session, readAhead: Self.openReadAhead(point))
    }
    let mounted =
      if let servant = options.servant { try servant.asRoot(mount) } else { try mount() }
    (mountPoint, session, readAhead) = (mounted.point, mounted.session, mounted.readAhead)
    device = fuse_session_fd(session)
    let hooked = Hooks.install(session, device: device)
    guard hooked == 0 else {
      fuse_session_unmount(session)
      fuse_session_destroy(session)
      throw .refused("libfuse took no hooks: \(Errno(rawValue: -hooked))")
    }
  }

  deinit { destroy() }

  /// What was agreed with the kernel; nil until INIT is answered.
  public var negotiated: Negotiated? { state.read { $0.negotiated } }

  /// Ends serving from any thread: unmounts, and if files are open detaches and fails them.
  public func stop() { shutDown(.stopped) }

  /// Unmounts if nothing uses the mount; false where something does, and everything stays as it is.
  func stopIfUnused() -> Bool { Unmount.run(mountPoint, options: options) == nil }

  private struct Mounted {
    let point: String
    let session: OpaquePointer
    let readAhead: SharedFD?
  }

  private static func openReadAhead(_ point: String) -> SharedFD? {
    guard let entry = MountTable.entry(at: point) else { return nil }
    let file = open("/sys/class/bdi/\(entry.device)/read_ahead_kb", O_WRONLY | O_CLOEXEC)
    return file < 0 ? nil : SharedFD(owning: file)
  }

  private static func create(
    _ argument: String, _ operations: fuse_lowlevel_ops, _ userdata: UnsafeMutableRawPointer?
  ) throws(MountError) -> OpaquePointer {
    var operations = operations
    var args = fuse_args()
    defer { fuse_opt_free_args(&args) }
    for word in ["scrim", "-o", argument] where fuse_opt_add_arg(&args, word) != 0 {
      throw .io("preparing mount options", .noMemory)
    }
    // SAFETY: libfuse copies the table of operations; `userdata` is the caller's to keep alive.
    let created = fuse_session_new(
      &args, &operations, MemoryLayout<fuse_lowlevel_ops>.size, userdata)
    guard let created else { throw .refused(LibraryLog.last ?? "libfuse gave no reason") }
    return created
  }

  /// Unmounts if need be, frees libfuse's session and calls the operations' `destroy`. Threads have ended.
  func destroy() {
    guard !destroyed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    backing.deactivate()
    fuse_session_unmount(session)
    fuse_session_destroy(session)
  }
}

/// libfuse's messages, which go to the log of the newest session.
enum LibraryLog {
  private static let sink = Mutex<(logger: Logger?, last: String?)>((nil, nil))

  /// The last message, often the reason of a failure.
  static var last: String? { sink.withLock { $0.last } }

  static func install(_ logger: Logger) {
    sink.withLock { $0 = (logger, nil) }
    fuse_set_log_func { level, format, arguments in
      guard let format, let arguments else { return }
      let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
        // SAFETY: vsnprintf ends the text with a NUL inside the buffer.
        vsnprintf(buffer.baseAddress, buffer.count, format, arguments)
        return buffer.baseAddress.map { String(cString: $0) } ?? ""
      }
      LibraryLog.write(text, isError: level.rawValue <= FUSE_LOG_ERR.rawValue)
    }
  }

  private static func write(_ text: String, isError: Bool) {
    var line = Substring(text)
    while line.last?.isNewline == true { line.removeLast() }
    let message = String(line)
    let logger = sink.withLock { sink in
      sink.last = message
      return sink.logger
    }
    logger?.log(level: isError ? .error : .debug, "libfuse: \(message)")
  }
}
