import Glibc

/// Tells on a terminal what goes on where something takes longer than a second, and takes the line away at the end.
enum Patience {
  // Written before the timer starts, read by the signal's handler only while it runs.
  private nonisolated(unsafe) static var line: [UInt8] = []
  private nonisolated(unsafe) static var isShown: sig_atomic_t = 0

  private static let show: @convention(c) (Int32) -> Void = { _ in
    isShown = 1
    _ = write(STDERR_FILENO, line, line.count)
  }

  /// Runs `body`; one at a time in a process, on its first thread.
  static func during<R, E>(_ what: String, _ body: () throws(E) -> R) throws(E) -> R {
    guard ProgressLine.isPossible else { return try body() }
    line = Array("\(what) …".fitted(to: ProgressLine.room).utf8)
    isShown = 0
    var before = sigaction()
    var action = sigaction()
    action.__sigaction_handler.sa_handler = show
    action.sa_flags = SA_RESTART
    sigaction(SIGALRM, &action, &before)
    alarm(1)
    defer {
      alarm(0)
      sigaction(SIGALRM, &before, nil)
      if isShown != 0 { _ = write(STDERR_FILENO, "\r\u{1B}[K", 4) }
    }
    return try body()
  }
}
