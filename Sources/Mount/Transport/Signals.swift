import Glibc

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
