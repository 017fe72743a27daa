import Glibc
import SystemPackage

/// A bounded queue between one producer and its worker threads.
///
/// Unchecked: everything is under `mutex`.
final class JobQueue<Job: Sendable>: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let hasChanged = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let capacity: Int
  private var jobs: [Job] = []
  private var next = 0
  private var isClosed = false

  init(capacity: Int) {
    self.capacity = capacity
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(hasChanged, nil)
  }

  deinit {
    pthread_cond_destroy(hasChanged)
    pthread_mutex_destroy(mutex)
    hasChanged.deallocate()
    mutex.deallocate()
  }

  /// Waits for room, then adds a job.
  func add(_ job: Job) {
    pthread_mutex_lock(mutex)
    while jobs.count - next >= capacity { pthread_cond_wait(hasChanged, mutex) }
    jobs.append(job)
    pthread_cond_broadcast(hasChanged)
    pthread_mutex_unlock(mutex)
  }

  /// Waits for a job; nil once the queue is closed and empty.
  func take() -> Job? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while next == jobs.count, !isClosed { pthread_cond_wait(hasChanged, mutex) }
    guard next < jobs.count else { return nil }
    let job = jobs[next]
    next += 1
    if next >= capacity {
      jobs.removeFirst(next)
      next = 0
    }
    pthread_cond_broadcast(hasChanged)
    return job
  }

  /// No more jobs come.
  func close() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_cond_broadcast(hasChanged)
    pthread_mutex_unlock(mutex)
  }
}

/// A thread that works until its body returns.
struct Worker {
  private let handle: pthread_t

  private final class Start {
    let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) {
      self.body = body
    }
  }

  init(_ body: @escaping @Sendable () -> Void) throws(TransferError) {
    var handle = pthread_t()
    let start = Unmanaged.passRetained(Start(body))
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
      throw .outside(Errno(rawValue: result), "starting a thread")
    }
    self.handle = handle
  }

  /// Waits for its end. Call exactly once.
  func join() {
    pthread_join(handle, nil)
  }
}
