import Glibc
import Synchronization

/// Runs a closure on several threads.
public enum ThreadRunner {
  private final class Job: Sendable {
    let index: Int
    let body: @Sendable (Int) throws -> Bool
    let result = Mutex(false)

    init(_ index: Int, _ body: @escaping @Sendable (Int) throws -> Bool) {
      self.index = index
      self.body = body
    }
  }

  /// Runs it and waits for all of them.
  ///
  /// - Parameters:
  ///   - count: How many threads.
  ///   - body: Gets the thread's number.
  /// - Returns: What each gave; false where it threw.
  public static func run(count: Int, _ body: @escaping @Sendable (Int) throws -> Bool) -> [Bool] {
    let jobs = (0..<count).map { Job($0, body) }
    let threads = jobs.map { job in
      var thread = pthread_t()
      let context = Unmanaged.passRetained(job).toOpaque()
      let status = pthread_create(
        &thread, nil,
        { raw in
          guard let raw else { return nil }
          let job = Unmanaged<Job>.fromOpaque(raw).takeRetainedValue()
          let result = (try? job.body(job.index)) ?? false
          job.result.withLock { $0 = result }
          return nil
        }, context)
      precondition(status == 0, "no thread")
      return thread
    }
    for thread in threads { pthread_join(thread, nil) }
    return jobs.map { $0.result.withLock { $0 } }
  }
}
