import CLinux
import Glibc
import Primitives
import Synchronization
import SystemPackage

/// Makes the kernel know backing files: on the session's own descriptor, or through a privileged broker.
public protocol BackingRegistrar: Sendable {
  /// Registers an open regular file and returns its backing ID, 1 or more.
  ///
  /// The kernel keeps the file itself, so `descriptor` may be closed afterwards. Reads and writes through
  /// the ID run with the credentials of whoever calls this, whatever `descriptor` was opened for.
  func register(_ descriptor: Int32) throws(Errno) -> Int32
  /// Takes a backing ID back. Files still open through it go on.
  func unregister(_ backingID: Int32)
}

/// Registers on the session's descriptor, which takes CAP_SYS_ADMIN in the initial user namespace.
public struct DeviceRegistrar: BackingRegistrar {
  private let device: Int32

  /// `device` is the session's descriptor and must outlive the registrar.
  init(device: Int32) { self.device = device }

  /// Registers without CAP_FSETID, so a user's write strips suid and sgid from the backing file.
  ///
  /// The kernel does backing I/O with the credentials seen here. With HANDLE_KILLPRIV_V2 agreed, it leaves
  /// stripping to the backing filesystem, which a holder of CAP_FSETID is exempt from.
  ///
  /// - Throws: EPERM without CAP_SYS_ADMIN or before passthrough is agreed, ELOOP when the backing filesystem
  ///   is stacked too deep, EINVAL for anything that is not a regular file.
  public func register(_ descriptor: Int32) throws(Errno) -> Int32 {
    let dropped = scrim_drop_capability(SCRIM_CAP_FSETID)
    guard dropped >= 0 else { throw Errno(rawValue: -dropped) }
    defer {
      // It is in the permitted set, where it was taken from a moment ago, so this cannot be refused.
      if dropped == 1 { _ = scrim_raise_capability(SCRIM_CAP_FSETID) }
    }
    return try Sys.fuseBackingOpen(session: device, backing: descriptor)
  }

  /// Takes the ID back; the kernel refuses only an ID it never gave out.
  public func unregister(_ backingID: Int32) {
    try? Sys.fuseBackingClose(session: device, id: backingID)
  }
}

/// One backing ID per inode, shared by all its opens.
///
/// The kernel answers EIO to an open whose ID differs from that of an open already there, and to an open that mixes
/// passthrough with cached. So the decision is made at an inode's first open and holds until its last
/// RELEASE, and closing an ID earlier races with the opener that is about to look it up.
public final class BackingRegistry: Sendable {
  private struct Use {
    /// Nil: this inode was opened without passthrough and stays so while open.
    let id: Int32?
    var opens: Int
  }

  /// One of several maps, so that opens of different inodes rarely meet at a lock.
  private final class Shard: Sendable {
    let uses = Mutex<[UInt64: Use]>([:])
  }

  private let shards = (0..<16).map { _ in Shard() }
  private let registrar = Mutex<(any BackingRegistrar)?>(nil)
  private let registered = Atomic<Int>(0)

  /// A registry that refuses everything until ``activate(_:)``.
  public init() {}

  /// Starts handing out IDs.
  func activate(_ registrar: any BackingRegistrar) {
    self.registrar.withLock { $0 = registrar }
  }

  /// Stops touching the kernel: the connection is gone and its descriptor's number may be reused.
  func deactivate() {
    registrar.withLock { $0 = nil }
  }

  /// Backing IDs registered now.
  public var count: Int { registered.load(ordering: .relaxed) }

  /// Counts one more open of an inode and says how to answer it.
  ///
  /// Call once for every OPEN and CREATE of a plain inode and ``release(inode:)`` once for every RELEASE, and
  /// also when the reply to the OPEN failed with ENOENT, since then no RELEASE follows.
  ///
  /// - Parameters:
  ///   - inode: the inode's key, such as its nodeid; the same for all its opens.
  ///   - descriptor: open for reading and writing on the backing file; used at the first open only. On a mount that
  ///     anyone but its owner reaches, it must not be read-only: the kernel does not look at the mode. Nil for a file
  ///     that is not to be passed through.
  /// - Returns: the ID for the reply, or nil: answer without passthrough.
  public func acquire(inode: UInt64, descriptor: Int32?) -> Int32? {
    shard(inode).uses.withLock { uses in
      if let use = uses[inode] {
        uses[inode] = Use(id: use.id, opens: use.opens + 1)
        return use.id
      }
      let id = descriptor.flatMap(register)
      uses[inode] = Use(id: id, opens: 1)
      return id
    }
  }

  /// Counts one open of an inode less; the last one gives its backing ID back.
  public func release(inode: UInt64) {
    shard(inode).uses.withLock { uses in
      guard let use = uses[inode] else { return }
      if use.opens > 1 {
        uses[inode] = Use(id: use.id, opens: use.opens - 1)
        return
      }
      uses[inode] = nil
      guard let id = use.id else { return }
      registered.subtract(1, ordering: .relaxed)
      registrar.withLock { $0 }?.unregister(id)
    }
  }

  /// Whether an inode is open with passthrough, open without, or not open (nil).
  public func isPassthrough(inode: UInt64) -> Bool? {
    shard(inode).uses.withLock { $0[inode].map { $0.id != nil } }
  }

  private func register(_ descriptor: Int32) -> Int32? {
    guard let registrar = registrar.withLock({ $0 }) else { return nil }
    guard let id = try? registrar.register(descriptor) else { return nil }
    registered.add(1, ordering: .relaxed)
    return id
  }

  private func shard(_ inode: UInt64) -> Shard { shards[Int(inode % UInt64(shards.count))] }
}

/// Whether passthrough works here, found by trying it.
struct PassthroughProbe {
  /// What registers, here or in the broker.
  private(set) var registrar: any BackingRegistrar
  /// Whether it works.
  private(set) var result: Availability

  /// Registers a backing file and takes it back, or says in words why that cannot be.
  ///
  /// - Parameters:
  ///   - options: say whether it is wanted, what to try it with, and where the vault is, for the broker.
  ///   - device: the session's descriptor.
  ///   - agreed: whether the kernel took the wish for it.
  ///   - kernelMinor: the protocol it speaks.
  init(_ options: SessionOptions, device: Int32, agreed: Bool, kernelMinor: UInt32) {
    registrar = options.registrar ?? DeviceRegistrar(device: device)
    result = .active
    guard !options.writeback else {
      result = .unavailable("the kernel's write-back cache is used instead, by option")
      return
    }
    guard options.passthrough else {
      result = .unavailable("switched off by option")
      return
    }
    guard agreed else {
      result = .unavailable(
        kernelMinor < 40
          ? "the kernel speaks FUSE 7.\(kernelMinor), passthrough came with 7.40 (Linux 6.9)"
          : "the kernel did not offer it (built without CONFIG_FUSE_PASSTHROUGH)")
      return
    }
    guard let file = options.passthroughProbe else {
      result = .unavailable("no backing file to try it with")
      return
    }
    let refusal = refusal(file)
    guard refusal == .notPermitted, options.registrar == nil, let folder = options.vaultFolder
    else {
      result = refusal.map { .unavailable(Self.reason($0)) } ?? .active
      return
    }
    do throws(BrokerFailure) {
      registrar = try BrokerRegistrar(
        device: device, folder: folder, started: options.broker)
      result = self.refusal(file).map { .unavailable(Self.brokerReason($0)) } ?? .active
    } catch {
      result = .unavailable(error.reason)
    }
  }

  private func refusal(_ file: Int32) -> Errno? {
    do throws(Errno) {
      registrar.unregister(try registrar.register(file))
      return nil
    } catch {
      return error
    }
  }

  private static func brokerReason(_ error: Errno) -> String {
    switch error {
    case .permissionDenied: "the broker takes only files open for reading and writing"
    case .notPermitted: "the broker's CAP_SYS_ADMIN does not count here (in a container)"
    case .socketNotConnected: "the broker ended"
    default: reason(error)
    }
  }

  private static func reason(_ error: Errno) -> String {
    switch error.rawValue {
    case EPERM: "this process lacks CAP_SYS_ADMIN (run as root)"
    case ELOOP:
      "the backing filesystem is itself stacked (overlayfs or another passthrough mount)"
    case ENOTTY, EOPNOTSUPP, ENOSYS: "the kernel has no such call"
    default: "the kernel refused the backing file: \(error)"
    }
  }
}
