import CLinux
import Glibc
import SystemPackage

/// A POSIX thread.
public final class WorkerThread: @unchecked Sendable {
  // Written once before the object is shared.
  private let handle: pthread_t

  private final class Start {
    let body: @Sendable () -> Void
    init(body: @escaping @Sendable () -> Void) { self.body = body }
  }

  /// Starts a thread.
  ///
  /// - Parameters:
  ///   - name: For `top` and `/proc`, 15 bytes at most.
  ///   - body: What it does.
  /// - Throws: What pthread_create(3) gave.
  public init(name: String, body: @escaping @Sendable () -> Void) throws(Errno) {
    var handle = pthread_t()
    let start = Unmanaged.passRetained(
      Start {
        // Without its name the thread is as good.
        try? Sys.setThreadName(Array(name.utf8))
        // Its starter may be pinned to a processor, which is inherited.
        scrim_unpin_thread()
        body()
      })
    // SAFETY: the thread takes over the one reference passed here; on failure it is released below.
    let result = pthread_create(
      &handle, nil,
      { argument in
        guard let argument else { return nil }
        Unmanaged<Start>.fromOpaque(argument).takeRetainedValue().body()
        return nil
      }, start.toOpaque())
    guard result == 0 else {
      start.release()
      throw Errno(rawValue: result)
    }
    self.handle = handle
  }

  /// Waits for the end of the thread. Call exactly once, unless it was let go.
  public func join() { pthread_join(handle, nil) }

  /// Nobody will wait for its end. Call once at most, instead of ``join()``.
  public func letGo() { pthread_detach(handle) }

  /// Interrupts a system call the thread is blocked in. Only before ``join()``.
  public func interrupt(_ signal: Int32) { pthread_kill(handle, signal) }
}
