import Logging
import Primitives
import Synchronization
import SystemPackage

/// When a mount was last asked for something, at no cost to requests but a look at one flag.
///
/// Nobody looks until ``watch()`` was called.
final class Activity: Sendable {
  /// Whether `time` is noted; requests write only while it is not.
  private let isNoted = Atomic<Bool>(true)
  /// Milliseconds since boot.
  private let time = Atomic<UInt64>(0)

  /// A request has come.
  @inline(__always)
  func note() {
    if isNoted.load(ordering: .relaxed) { return }
    time.store(Clock.sinceBoot(), ordering: .relaxed)
    isNoted.store(true, ordering: .releasing)
  }

  /// When the first request since the last call came, in milliseconds since boot; nil where none did.
  func takeFirst() -> UInt64? {
    isNoted.exchange(false, ordering: .acquiring) ? time.load(ordering: .relaxed) : nil
  }

  /// From now on times are noted.
  func watch() { isNoted.store(false, ordering: .relaxed) }
}

/// Unmounts what nobody has used for long enough. Time in suspension counts.
enum IdleWatch {
  /// How long the thread sleeps at most, in milliseconds.
  private static let longestSleep: UInt64 = 10_000

  /// Starts the thread that looks; `limit` is in milliseconds.
  static func start(
    _ fileSystem: FileSystem, _ session: Session, limit: UInt64
  ) throws(Errno) -> Lookout {
    fileSystem.activity.watch()
    return try Lookout("scrim-idle") { look(fileSystem, session, limit: limit, $0) }
  }

  private static func look(
    _ fileSystem: FileSystem, _ session: Session, limit: UInt64, _ pause: Lookout.Pause
  ) {
    let sleep = min(max(limit / 8, 100), longestSleep)
    var last = Clock.sinceBoot()
    while pause(milliseconds: Int(sleep)) {
      if let first = fileSystem.activity.takeFirst() { last = first }
      let now = Clock.sinceBoot()
      // Later requests of the same look may have come as long after the first as the sleep takes.
      guard now >= last, now - last >= limit + sleep else { continue }
      if fileSystem.hasOpenFiles {
        last = now
      } else if session.stopIfUnused() {
        fileSystem.log.notice("\(session.mountPoint): unmounted, unused for \(limit / 1000) s")
        return
      }
    }
  }
}

extension FileSystem {
  /// Whether a file or directory is open, in the kernel's passthrough too.
  fileprivate var hasOpenFiles: Bool {
    handles.count > 0 || table.openInodes().contains { users(of: $0) > 0 }
  }
}
