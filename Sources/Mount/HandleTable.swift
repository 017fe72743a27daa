import Synchronization

/// The directory streams that are open, by the handle the kernel was given.
///
/// Files need no handle: what is open of them belongs to their inode.
final class HandleTable: Sendable {
  private struct Contents {
    var streams: [UInt64: OpenDirectory] = [:]
    var next: UInt64 = 1
  }

  private let contents = Mutex(Contents())

  /// Handles open now.
  var count: Int { contents.withLock { $0.streams.count } }

  /// Gives a stream a handle, never the same twice.
  func insert(_ stream: OpenDirectory) -> UInt64 {
    contents.withLock { contents in
      let handle = contents.next
      contents.next += 1
      contents.streams[handle] = stream
      return handle
    }
  }

  func find(_ handle: UInt64) -> OpenDirectory? { contents.withLock { $0.streams[handle] } }

  func remove(_ handle: UInt64) {
    let removed = contents.withLock { $0.streams.removeValue(forKey: handle) }
    withExtendedLifetime(removed) {}
  }
}
