import Container
import Synchronization

/// What was asked of the files of one mode since the mount.
final class ModeCounters: Sendable {
  let opens = Atomic<UInt64>(0)
  let reads = Atomic<UInt64>(0)
  let writes = Atomic<UInt64>(0)
  let bytesRead = Atomic<UInt64>(0)
  let bytesWritten = Atomic<UInt64>(0)

  func countOpen() { opens.wrappingAdd(1, ordering: .relaxed) }

  func countRead(_ bytes: Int) {
    reads.wrappingAdd(1, ordering: .relaxed)
    bytesRead.wrappingAdd(UInt64(bytes), ordering: .relaxed)
  }

  func countWrite(_ bytes: Int) {
    writes.wrappingAdd(1, ordering: .relaxed)
    bytesWritten.wrappingAdd(UInt64(bytes), ordering: .relaxed)
  }
}

/// Counters of a mount. For plain files `reads` and `writes` are what came through user space, since
/// nobody can count what the kernel does by itself.
final class Counters: Sendable {
  let plain = ModeCounters()
  let sealed = ModeCounters()
  let compressed = ModeCounters()
  let sealedCompressed = ModeCounters()
  /// Requests of all kinds that came to the daemon.
  let requests = Atomic<UInt64>(0)
  /// Opens answered with a backing ID.
  let passthroughOpens = Atomic<UInt64>(0)
  /// Requests that ended in an integrity failure.
  let integrityFailures = Atomic<UInt64>(0)

  subscript(policy: ContentPolicy) -> ModeCounters {
    switch policy {
    case .plain: plain
    case .sealed: sealed
    case .compressed: compressed
    case .sealedCompressed: sealedCompressed
    }
  }
}
