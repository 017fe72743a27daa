import Glibc
import Synchronization
import SystemPackage

/// Threads that help whoever has a task with parts that can be done in any order.
///
/// They start when they are first needed, and end when nothing was to do for a while.
public final class WorkCrew: Sendable {
  fileprivate final class Task: Sendable {
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

  fileprivate struct Board {
    var tasks: [Task] = []
    /// What helpers do when they have nothing else to do.
    var background: [Task] = []
    var threads = 0

    var next: Task? { (tasks.first { $0.hasParts }) ?? background.first { $0.hasParts } }
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

  /// Whether there are helpers at all.
  public var hasHelpers: Bool { limit > 0 }

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
    post(task, \.tasks, wanted: parts - 1)
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

  /// Has helpers do the parts of a task that may fail, when they have nothing else to do.
  ///
  /// - Parameters:
  ///   - parts: How many.
  ///   - wakesForOne: Whether a helper is to wake up for a single part.
  ///   - body: Does one part, given its number from 0; what it works on is apart for each.
  /// - Returns: The task, to be finished.
  public func begin<E: Error>(
    parts: Int, wakesForOne: Bool = false, _ body: @escaping (Int) throws(E) -> Void
  ) -> BackgroundTask<E> {
    let failable = FailableTask(body)
    let task = Task(parts: parts) { failable.run($0) }
    if limit > 0, parts > 1 || wakesForOne { post(task, \.background, wanted: parts) }
    return BackgroundTask(failable: failable, task: task, board: board)
  }

  private func post(
    _ task: Task, _ list: WritableKeyPath<Board, [Task]>, wanted: Int
  ) {
    let isShort = board.update { board in
      board[keyPath: list].append(task)
      return board.threads < min(limit, wanted)
    }
    if isShort { startHelper() }
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
        guard let task = board.next else { return nil }
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

/// A task that helpers do now and then.
public struct BackgroundTask<E: Error> {
  fileprivate let failable: FailableTask<E>
  fileprivate let task: WorkCrew.Task
  fileprivate let board: Monitor<WorkCrew.Board>

  /// Does what is left of it; has to be called before what it works on goes away, and may be called again
  /// by the same thread.
  ///
  /// - Throws: The first failure, after which further parts may have been left out.
  public func finish() throws(E) {
    task.work()
    board.change { $0.background.removeAll { $0 === task } }
    task.helpers.wait { $0 == 0 ? () : nil }
    if let failure = failable.failure.withLock({ $0 }) { throw failure }
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
