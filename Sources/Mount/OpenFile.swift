import CFuse
import Container
import Glibc
import Primitives
import Synchronization
import SystemPackage
import Vault

/// What is open of one inode: one backing descriptor and, for a transformed file, one container,
/// shared by all opens.
///
/// `lock` guards `descriptor`, `container` and `isWritable`: it is held for reading by everything that uses
/// them, for writing by what replaces them, and by appending writes, whose offset must not move
/// meanwhile. `users` is guarded by the inode's state lock.
final class OpenFile: @unchecked Sendable {
  struct Times {
    /// The plain modification time, while the backing file's may be another: until the next commit.
    var modification: TimeSpec?
    /// When the content changed last, which is a change of the inode too.
    var change: TimeSpec?
    /// Grows with every change, so that a commit knows whether it saw the last one.
    var sequence: UInt64 = 0
    /// Whether somebody set the modification time, or was told of it.
    var isFixed = false

    /// Whether the time of a commit now is as good as that of the change, which nobody knows: the file need not
    /// be given another one afterwards.
    var isLikeNow: Bool {
      guard let time = modification, !isFixed else { return false }
      let now = Clock.coarse()
      let passed =
        (now.seconds - time.seconds) * 1_000_000_000 + Int64(now.nanoseconds)
        - Int64(time.nanoseconds)
      return (0...10_000_000).contains(passed)
    }
  }

  let lock = ReadWriteLock()
  private(set) var descriptor: SharedFD?
  /// The vault's object for the container, which commits it.
  private(set) var stored: VaultContainer?
  /// `stored.file`, kept at hand.
  private(set) var container: ContainerFile?
  private(set) var isWritable = false
  /// What naming it takes, of a file that was made without a name.
  private(set) var temporary: TemporaryFile?
  /// Opens, and operations that use the file for a moment.
  var users = 0

  let times = Mutex(Times())
  /// Monotonic milliseconds of the first change that is not committed; 0 when there is none.
  let dirtySince = Atomic<UInt64>(0)
  /// Committed, or created, but perhaps not on the disk.
  let isUnsynced = Atomic<Bool>(false)
  /// Whether the maintenance thread knows of this file.
  let isWatched = Atomic<Bool>(false)
  /// Only one commit at a time, so that each knows which times it wrote.
  let commitLock = Mutex(())

  init() {}

  /// A file that was just created or opened.
  init(_ backing: Backing, isWritable: Bool) {
    install(backing, isWritable: isWritable)
  }

  /// What stands behind a file.
  enum Backing {
    case plain(SharedFD)
    case container(VaultContainer)
  }

  /// Whether it can be used, for writing too if asked. Call with `lock` held.
  func isReady(writable: Bool) -> Bool { descriptor != nil && (isWritable || !writable) }

  /// Takes what was opened. Call with `lock` held for writing.
  func install(_ backing: Backing, isWritable: Bool) {
    switch backing {
    case .plain(let descriptor):
      self.descriptor = descriptor
    case .container(let stored):
      self.stored = stored
      container = stored.file
      descriptor = stored.descriptor
    }
    self.isWritable = isWritable
  }

  /// Notes that the file was made without a name. Call before anybody else knows of it.
  func setTemporary(_ file: TemporaryFile) { temporary = file }

  /// The descriptor, for calls that need no container; nil while the file is being opened.
  func sharedDescriptor() -> SharedFD? { lock.withReadLock { descriptor } }

  /// The container; nil for a plain file and while the file is being opened.
  func sharedContainer() -> ContainerFile? { lock.withReadLock { container } }

  /// The vault's object for the container; nil as above.
  func sharedStored() -> VaultContainer? { lock.withReadLock { stored } }

  /// Notes that the content changed now.
  func touch() {
    let now = Clock.coarse()
    times.withLock { times in
      times.modification = now
      times.change = now
      times.sequence &+= 1
      times.isFixed = false
    }
    noteDirty()
  }

  /// Notes that a commit has something to do.
  func noteDirty() {
    if dirtySince.load(ordering: .relaxed) == 0 {
      dirtySince.store(Clock.milliseconds(), ordering: .relaxed)
    }
  }

  /// Sets the modification time that the next commit is to leave behind.
  func setModification(_ time: TimeSpec) {
    times.withLock { times in
      times.modification = time
      times.sequence &+= 1
      times.isFixed = true
    }
  }

  /// The times that are still to be set, for someone who will be told of them.
  func pendingTimes() -> Times {
    times.withLock { times in
      times.isFixed = times.isFixed || times.modification != nil
      return times
    }
  }
}

/// The clocks of the mount.
enum Clock {
  /// The time that the kernel puts into inodes: the same clock, so that the times of containers and of
  /// plain files sort in the order of the writes.
  static func coarse() -> TimeSpec { read(CLOCK_REALTIME_COARSE) }

  /// Milliseconds of a clock that is never set; never 0.
  static func milliseconds() -> UInt64 {
    let time = read(CLOCK_MONOTONIC_COARSE)
    return UInt64(max(time.seconds, 0)) &* 1000 + UInt64(time.nanoseconds / 1_000_000) + 1
  }

  /// Nanoseconds of a clock that is never set, for how long something takes.
  static func nanoseconds() -> UInt64 {
    let time = read(CLOCK_MONOTONIC)
    return UInt64(max(time.seconds, 0)) &* 1_000_000_000 &+ UInt64(time.nanoseconds)
  }

  /// Milliseconds since the machine started, those it was suspended included.
  static func sinceBoot() -> UInt64 {
    let time = read(CLOCK_BOOTTIME)
    return UInt64(max(time.seconds, 0)) &* 1000 + UInt64(time.nanoseconds / 1_000_000)
  }

  private static func read(_ clock: clockid_t) -> TimeSpec {
    var time = timespec()
    // Cannot fail: every Linux has these clocks.
    _ = clock_gettime(clock, &time)
    return TimeSpec(seconds: Int64(time.tv_sec), nanoseconds: UInt32(time.tv_nsec))
  }
}
