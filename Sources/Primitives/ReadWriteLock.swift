import CLinux
import Glibc

/// A lock held by one writer or any number of readers. A waiting writer goes before new readers,
/// so a thread must not take the lock for reading twice.
public final class ReadWriteLock: @unchecked Sendable {
  // A lock's address must not change, so it has memory of its own.
  private let lock = UnsafeMutablePointer<pthread_rwlock_t>.allocate(capacity: 1)

  /// Makes a free lock.
  public init() {
    let error = scrim_rwlock_init(lock)
    precondition(error == 0, "out of memory")
  }

  deinit {
    pthread_rwlock_destroy(lock)
    lock.deallocate()
  }

  /// Runs `body` together with other readers but no writer.
  @discardableResult
  public func withReadLock<R: ~Copyable, E>(_ body: () throws(E) -> R) throws(E) -> R {
    let error = pthread_rwlock_rdlock(lock)
    precondition(error == 0, "a thread locked for reading what it has locked for writing")
    defer { pthread_rwlock_unlock(lock) }
    return try body()
  }

  /// Runs `body` alone.
  @discardableResult
  public func withWriteLock<R: ~Copyable, E>(_ body: () throws(E) -> R) throws(E) -> R {
    let error = pthread_rwlock_wrlock(lock)
    precondition(error == 0, "a thread locked for writing what it has locked already")
    defer { pthread_rwlock_unlock(lock) }
    return try body()
  }
}
