import CFuse
import Glibc
import Primitives
import SystemPackage

/// A joinable POSIX thread.
final class WorkerThread: @unchecked Sendable {
  // Written once before the object is shared.
  private let handle: pthread_t

  private final class Start {
    let body: @Sendable () -> Void
    init(body: @escaping @Sendable () -> Void) { self.body = body }
  }

  /// Starts a thread, named for `top` and `/proc` (15 bytes at most).
  init(name: String, body: @escaping @Sendable () -> Void) throws(Errno) {
    var handle = pthread_t()
    let start = Unmanaged.passRetained(
      Start {
        // Without its name the thread is as good.
        try? Sys.setThreadName(Array(name.utf8))
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

  /// Waits for the end of the thread. Call exactly once.
  func join() { pthread_join(handle, nil) }

  /// Interrupts a system call the thread is blocked in. Only before ``join()``.
  func interrupt(_ signal: Int32) { pthread_kill(handle, signal) }
}

/// A value under a mutex that threads can wait on.
final class Monitor<Value>: @unchecked Sendable {
  // `value` is touched with `mutex` held only.
  fileprivate var value: Value
  fileprivate let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  fileprivate let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init(_ value: Value) {
    self.value = value
    // SAFETY: both are initialised before anyone can see the object, and stay where they are.
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Reads or changes the value, and wakes everyone who waits.
  func update<Result>(_ body: (inout Value) -> Result) -> Result {
    pthread_mutex_lock(mutex)
    defer {
      pthread_cond_broadcast(condition)
      pthread_mutex_unlock(mutex)
    }
    return body(&value)
  }

  /// Reads the value.
  func read<Result>(_ body: (Value) -> Result) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body(value)
  }

  /// Waits until `body` returns something.
  func wait<Result>(_ body: (Value) -> Result?) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while true {
      if let result = body(value) { return result }
      pthread_cond_wait(condition, mutex)
    }
  }
}

extension Monitor {
  /// Waits until `body` returns something, or about this long; nil when the time is over.
  func wait<Result>(milliseconds: Int, _ body: (Value) -> Result?) -> Result? {
    var deadline = timespec()
    clock_gettime(CLOCK_REALTIME, &deadline)
    let nanoseconds = deadline.tv_nsec + milliseconds % 1000 * 1_000_000
    deadline.tv_sec += milliseconds / 1000 + nanoseconds / 1_000_000_000
    deadline.tv_nsec = nanoseconds % 1_000_000_000
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while true {
      if let result = body(value) { return result }
      if pthread_cond_timedwait(condition, mutex, &deadline) == ETIMEDOUT { return body(value) }
    }
  }
}

/// Signals of a serving process.
enum Signals {
  /// Interrupts threads blocked in a system call; its handler does nothing.
  static let wake = __libc_current_sigrtmin() + 3
  /// Ends the thread that waits for termination signals.
  static let quit = __libc_current_sigrtmin() + 4
  static let termination: [Int32] = [SIGTERM, SIGINT, SIGHUP]

  static func set(_ signals: [Int32]) -> sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in signals { sigaddset(&set, signal) }
    return set
  }

  static func block(_ signals: [Int32]) {
    var set = set(signals)
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// Makes `wake` interrupt and do nothing else.
  static func installWake() {
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigemptyset(&action.sa_mask)
    // No SA_RESTART: the interrupted call must return.
    action.sa_flags = 0
    sigaction(wake, &action, nil)
    var set = set([wake])
    pthread_sigmask(SIG_UNBLOCK, &set, nil)
  }

  /// Waits for one of `signals`, all blocked in every thread.
  static func wait(_ signals: [Int32]) -> Int32 {
    var set = set(signals)
    var signal: Int32 = 0
    while sigwait(&set, &signal) != 0 {}
    return signal
  }
}
