import CLinux
import Glibc
import SystemPackage

/// A byte-range lock of an open file description.
public struct RecordLock: Sendable, Equatable {
  /// What a lock allows others.
  public enum Kind: Sendable {
    /// Others may read.
    case shared
    /// Nobody else may lock.
    case exclusive
    /// No lock.
    case unlocked
  }

  /// What kind of lock.
  public var kind: Kind
  /// First byte.
  public var start: Int64
  /// Length in bytes; zero reaches to the end of the file however it grows.
  public var length: Int64
  /// The holder in answers, -1 for another open file description.
  public var pid: Int32

  /// A lock to ask for; by default of the whole file.
  public init(_ kind: Kind, start: Int64 = 0, length: Int64 = 0) {
    self.kind = kind
    self.start = start
    self.length = length
    pid = 0
  }
}

extension Sys {
  /// flock(2).
  ///
  /// - Parameters:
  ///   - descriptor: The file.
  ///   - operation: LOCK_SH, LOCK_EX or LOCK_UN, perhaps with LOCK_NB.
  /// - Throws: The call's error.
  public static func flock(_ descriptor: Int32, _ operation: Int32) throws(Errno) {
    _ = try retry { scrim_flock(descriptor, operation) }
  }

  /// Sets or removes a lock of the open file description, F_OFD_SETLK and F_OFD_SETLKW.
  ///
  /// - Throws: `.resourceTemporarilyUnavailable` where another holds it and `wait` is false. A wait
  ///   that a signal interrupts goes on.
  public static func setLock(
    _ descriptor: Int32, _ lock: RecordLock, wait: Bool = false
  ) throws(Errno) {
    var raw = rawLock(lock)
    _ = try retry { scrim_ofd_set(descriptor, &raw, wait ? 1 : 0) }
  }

  /// The lock that would be in the way of this one, F_OFD_GETLK; nil if none.
  public static func queryLock(
    _ descriptor: Int32, _ lock: RecordLock
  ) throws(Errno) -> RecordLock? {
    var raw = rawLock(lock)
    _ = try retry { scrim_ofd_query(descriptor, &raw) }
    guard raw.type != F_UNLCK else { return nil }
    var found = RecordLock(
      raw.type == F_WRLCK ? .exclusive : .shared, start: raw.start, length: raw.length)
    found.pid = raw.pid
    return found
  }

  private static func rawLock(_ lock: RecordLock) -> scrim_record_lock {
    let type =
      switch lock.kind {
      case .shared: F_RDLCK
      case .exclusive: F_WRLCK
      case .unlocked: F_UNLCK
      }
    return scrim_record_lock(
      start: lock.start, length: lock.length, pid: 0, type: Int16(type))
  }

  /// Gives this thread another filesystem user ID.
  ///
  /// - Returns: The ID before.
  /// - Throws: `.notPermitted` if the kernel did not take it.
  @discardableResult
  public static func setfsuid(_ uid: UInt32) throws(Errno) -> UInt32 {
    let before = scrim_setfsuid(uid)
    // The call reports no error; asking for an impossible ID only reads.
    guard uid == before || scrim_setfsuid(UInt32.max) == uid else { throw .notPermitted }
    return before
  }

  /// Gives this thread another filesystem group ID.
  ///
  /// - Returns: The ID before.
  /// - Throws: `.notPermitted` if the kernel did not take it.
  @discardableResult
  public static func setfsgid(_ gid: UInt32) throws(Errno) -> UInt32 {
    let before = scrim_setfsgid(gid)
    guard gid == before || scrim_setfsgid(UInt32.max) == gid else { throw .notPermitted }
    return before
  }

  /// Sets the supplementary groups of this thread only.
  public static func setThreadGroups(_ groups: [UInt32]) throws(Errno) {
    _ = try retry { scrim_set_thread_groups(groups.count, groups) }
  }

  /// Whether the process may be traced by its user and leave core dumps, PR_SET_DUMPABLE.
  public static func setDumpable(_ dumpable: Bool) throws(Errno) {
    _ = try retry { scrim_set_dumpable(dumpable ? 1 : 0) }
  }

  /// Names this thread, PR_SET_NAME; at most 15 bytes are kept.
  public static func setThreadName(_ name: [UInt8]) throws(Errno) {
    _ = try withName(name) { name throws(Errno) in try retry { scrim_set_thread_name(name) } }
  }

  /// mlock(2).
  public static func mlock(_ memory: UnsafeRawBufferPointer) throws(Errno) {
    _ = try retry { Glibc.mlock(memory.baseAddress, memory.count) }
  }

  /// Raises RLIMIT_NOFILE to its hard limit.
  ///
  /// - Returns: How many descriptors may now be open.
  @discardableResult
  public static func raiseDescriptorLimit() throws(Errno) -> UInt64 {
    var limit = rlimit()
    _ = try retry { getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) }
    limit.rlim_cur = limit.rlim_max
    _ = try retry { setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) }
    return UInt64(limit.rlim_cur)
  }

  /// The memory of this machine in bytes, or nothing if it does not tell.
  public static var physicalMemory: UInt64 {
    UInt64(max(sysconf(Int32(_SC_PHYS_PAGES)), 0)) * UInt64(max(sysconf(Int32(_SC_PAGESIZE)), 0))
  }

  /// The time of day.
  public static func realtime() -> TimeSpec { clock(CLOCK_REALTIME) }

  /// A clock that is never set; good for differences only.
  public static func monotonic() -> TimeSpec { clock(CLOCK_MONOTONIC) }

  private static func clock(_ id: clockid_t) -> TimeSpec {
    var time = timespec()
    // Cannot fail: both clocks exist on every Linux.
    _ = clock_gettime(id, &time)
    return TimeSpec(seconds: Int64(time.tv_sec), nanoseconds: UInt32(time.tv_nsec))
  }

  /// FUSE_DEV_IOC_BACKING_OPEN: registers a file for passthrough; needs CAP_SYS_ADMIN.
  ///
  /// - Parameters:
  ///   - session: The FUSE session's descriptor.
  ///   - backing: The open file the kernel is to read and write.
  /// - Returns: The backing ID.
  /// - Throws: The call's error.
  public static func fuseBackingOpen(session: Int32, backing: Int32) throws(Errno) -> Int32 {
    try retry { scrim_fuse_backing_open(session, backing) }
  }

  /// FUSE_DEV_IOC_BACKING_CLOSE: gives a backing ID back.
  public static func fuseBackingClose(session: Int32, id: Int32) throws(Errno) {
    _ = try retry { scrim_fuse_backing_close(session, id) }
  }
}
