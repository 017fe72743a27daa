import Primitives
import SystemPackage

/// A bounded queue between one producer and its worker threads.
final class JobQueue<Job: Sendable>: Sendable {
  private struct State {
    var jobs: [Job] = []
    /// How many were taken and are not done.
    var running = 0
    var isClosed = false
  }

  private let capacity: Int
  private let state = Monitor(State())

  init(capacity: Int) { self.capacity = capacity }

  /// Waits for room, then adds a job.
  func add(_ job: Job) {
    // Nobody else adds, so the room stays.
    state.wait { [capacity] in $0.jobs.count < capacity ? () : nil }
    state.update { $0.jobs.append(job) }
  }

  /// Waits until every job is done.
  func drain() { state.wait { $0.jobs.isEmpty && $0.running == 0 ? () : nil } }

  /// Waits for a job; nil once the queue is closed and empty.
  private func take() -> Job? {
    let job: Job? = state.wait { state in
      if !state.jobs.isEmpty {
        state.running += 1
        return .some(state.jobs.removeFirst())
      }
      return state.isClosed ? .some(nil) : nil
    }
    // Wakes the producer, who may wait for room.
    state.update { _ in }
    return job
  }

  /// No more jobs come.
  func close() { state.update { $0.isClosed = true } }

  /// Starts the threads that do the jobs, each with a buffer of its own, until the queue is closed and empty.
  ///
  /// - Parameter process: Does one job.
  /// - Returns: The threads, to be joined.
  /// - Throws: `.outside` if a thread cannot be started.
  func startWorkers(
    _ process: @escaping @Sendable (Job, TransferBuffer) -> Void
  ) throws(TransferError) -> [WorkerThread] {
    var workers: [WorkerThread] = []
    for _ in 0..<2 {
      let worker = try attempting("starting a thread") { () throws(Errno) in
        try WorkerThread(name: "scrim-transfer") { [self] in
          let buffer = TransferBuffer()
          while let job = take() {
            process(job, buffer)
            state.update { $0.running -= 1 }
          }
        }
      }
      workers.append(worker)
    }
    return workers
  }
}
