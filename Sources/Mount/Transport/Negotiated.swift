/// Whether a facility of the kernel is in use on this mount.
public enum Availability: Sendable, Equatable, CustomStringConvertible {
  /// In use.
  case active
  /// Not in use, with the reason in words for the user.
  case unavailable(String)

  /// True when in use.
  public var isActive: Bool { self == .active }

  /// `active`, or `unavailable: ` and the reason.
  public var description: String {
    switch self {
    case .active: "active"
    case .unavailable(let reason): "unavailable: \(reason)"
    }
  }
}

/// How requests travel between the kernel and this process.
public enum TransportKind: Sendable, Equatable, CustomStringConvertible {
  /// Threads that read and write /dev/fuse.
  case device(workers: Int)
  /// One ring per possible processor, each with `depth` requests in flight.
  case rings(queues: Int, depth: Int)

  /// One line for the user.
  public var description: String {
    switch self {
    case .device(let workers): "/dev/fuse, \(workers) workers"
    case .rings(let queues, let depth): "io_uring, \(queues) queues of \(depth)"
    }
  }
}

/// What kernel and mount agreed on, complete once INIT is answered.
public struct Negotiated: Sendable {
  /// The kernel's FUSE protocol minor (major is 7).
  public var kernelMinor: UInt32
  /// INIT capabilities in effect, `flags2` in the upper word.
  public var capabilities: UInt64
  /// Whether opens may be answered with a backing ID.
  public var passthrough: Availability
  /// Whether requests travel over rings.
  public var ioUring: Availability
  /// How requests travel.
  public var transport: TransportKind
  /// Read-ahead of the mount in KiB, where it could be raised.
  public var readAheadKiB: Int?

  /// True when writes that must strip suid and sgid are marked, see ``RequestContext``.
  public var handlesKillPrivileges: Bool {
    capabilities & Wire.Capability.killPrivilegesV2 != 0
  }
}
