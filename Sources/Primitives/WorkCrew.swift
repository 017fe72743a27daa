import Glibc
import Synchronization
import SystemPackage

/// Threads that help whoever has a task with parts that can be done in any order.
///
/// They start when they are first needed, and end when nothing was to do for a while.
public final class WorkCrew: Sendable {
  private final class Task: Sendable {
    let parts: Int
    let body: @Sendable (Int) -> Void
    let next = Atomic<Int>(0)
    /// How many helpers are at it.
    let helpers = Monitor(0)

    init(parts: Int, body: @escaping @Sendable (Int) -> Void) {
      self.parts = parts
      self.body = body
    }

    var hasParts: Bool { next.load(ordering: .relaxed) < parts }

    func work() {
      while true {
        let part = next.wrappingAdd(1, ordering: .relaxed).oldValue
        guard part < parts else { return }
        body(part)
      }
    }
  }

  private struct Board {
    var tasks: [Task] = []
    var threads = 0
  }

  /// Milliseconds that a helper waits for a task.
  private static let patience = 10_000
  private let board = Monitor(Board())
  private let limit: Int

  /// Starts nothing yet.
  ///
  /// - Parameter limit: How many helpers there may be; one for each processor but that of the
  ///   thread that has the task, if nil.
  public init(limit: Int? = nil) {
    self.limit = limit ?? min(max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1) - 1, 7)
  }

  /// Calls `body` once for every part, on this thread and on those of helpers, and returns when
  /// all calls have.
  ///
  /// - Parameters:
  ///   - parts: How many.
  ///   - body: Does one part, given its number from 0.
  public func run(parts: Int, _ body: @escaping @Sendable (Int) -> Void) {
    guard parts > 1, limit > 0 else {
      for part in 0..<parts { body(part) }
      return
    }
    let task = Task(parts: parts, body: body)
    let isShort = board.update { board in
      board.tasks.append(task)
      return board.threads < min(limit, parts - 1)
    }
    if isShort { startHelper() }
    // What helpers do not take in time, for whatever reason, is done here.
    task.work()
    // From here on nobody joins in.
    board.change { $0.tasks.removeAll { $0 === task } }
    task.helpers.wait { $0 == 0 ? () : nil }
  }

  /// Does the parts of a task that may fail, on this thread and on those of helpers.
  ///
  /// - Parameters:
  ///   - parts: How many.
  ///   - body: Does one part, given its number from 0; what it works on is apart for each.
  /// - Throws: The first failure, after which further parts may have been left out.
  public func share<E: Error>(
    parts: Int, _ body: @escaping (Int) throws(E) -> Void
  ) throws(E) {
    let task = FailableTask(body)
    run(parts: parts) { task.run($0) }
    if let failure = task.failure.withLock({ $0 }) { throw failure }
  }

  private func startHelper() {
    let board = board
    board.change { $0.threads += 1 }
    do {
      try WorkerThread(name: "scrim-crew") { WorkCrew.help(board) }.letGo()
    } catch {
      // Without the thread there is less help.
      board.change { $0.threads -= 1 }
    }
  }

  private static func help(_ board: Monitor<Board>) {
    while true {
      let task = board.wait(milliseconds: patience) { board -> Task? in
        guard let task = board.tasks.first(where: { $0.hasParts }) else { return nil }
        task.helpers.change { $0 += 1 }
        return task
      }
      guard let task else { break }
      task.work()
      task.helpers.update { $0 -= 1 }
    }
    board.change { $0.threads -= 1 }
  }
}

/// A task whose parts several threads do; what it works on is apart for each part.
private final class FailableTask<E: Error>: @unchecked Sendable {
  private let body: (Int) throws(E) -> Void
  let failure = Mutex<E?>(nil)

  init(_ body: @escaping (Int) throws(E) -> Void) {
    self.body = body
  }

  func run(_ part: Int) {
    if failure.withLock({ $0 != nil }) { return }
    do throws(E) {
      try body(part)
    } catch {
      failure.withLock { $0 = $0 ?? error }
    }
  }
}
