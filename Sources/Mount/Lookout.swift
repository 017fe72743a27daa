import Primitives
import SystemPackage

/// A thread that looks at something now and then, until it is ended.
final class Lookout: Sendable {
  private let isEnding: Monitor<Bool>
  private let thread: WorkerThread

  /// The pauses between two looks.
  struct Pause: Sendable {
    fileprivate let isEnding: Monitor<Bool>

    /// False when it is time to end, which ends the pause too.
    func callAsFunction(milliseconds: Int) -> Bool {
      isEnding.wait(milliseconds: milliseconds) { $0 ? true : nil } == nil
    }
  }

  /// Starts the thread; `body` looks, and returns at once when a pause says so.
  init(_ name: String, _ body: @escaping @Sendable (Pause) -> Void) throws(Errno) {
    let isEnding = Monitor(false)
    self.isEnding = isEnding
    thread = try WorkerThread(name: name) { body(Pause(isEnding: isEnding)) }
  }

  /// Ends the thread. Call exactly once.
  func end() {
    isEnding.update { $0 = true }
    thread.join()
  }
}
