import Glibc
import Primitives
import SystemPackage

/// Why rings are not used, in words for the user.
struct RingFailure: Error {
  let reason: String
  /// The kernel waits for rings that will not come and could not be told, so nothing can be served.
  var losesMount = false
}

/// FUSE over io_uring: a thread and a ring for every possible processor.
///
/// The kernel puts a request into the queue of the processor it was made on and never moves it. All queues must be
/// registered before it lets a single request through, so what can fail is done before INIT is answered.
final class RingTransport: Sendable {
  private struct State {
    enum Phase { case preparing, registering, serving, abandoned }
    var phase = Phase.preparing
    var prepared = 0
    var registered = 0
    /// Threads that report no more.
    var ended = 0
    var failure: String?
  }

  let queues: Int
  private let state: Monitor<State>
  private let threads: [WorkerThread]

  /// Starts the threads and waits until each has its ring and its memory.
  ///
  /// - Throws: the reason in words, with every thread gone.
  init(session: Session, queues: Int, depth: Int) throws(RingFailure) {
    self.queues = queues
    let state = Monitor(State())
    var threads: [WorkerThread] = []
    for index in 0..<queues {
      do throws(MountError) {
        threads.append(
          try Session.start("scrim-ring-\(index)") {
            Self.live(RingQueue(session: session, index: index, depth: depth), state)
          })
      } catch {
        state.update { $0.failure = "\(error)" }
        break
      }
    }
    self.state = state
    self.threads = threads
    let started = threads.count
    state.wait { $0.prepared + $0.ended == started ? () : nil }
    if let reason = state.read({ $0.failure }) {
      abandon()
      join()
      throw RingFailure(reason: reason)
    }
  }

  /// Registers every queue, right after the kernel took the INIT reply: nil, or why rings are not used after all.
  func register(renouncing device: Int32) -> RingFailure? {
    state.update { $0.phase = .registering }
    let total = queues
    state.wait { $0.registered + $0.ended == total ? () : nil }
    guard let reason = state.read({ $0.failure }) else {
      state.update { $0.phase = .serving }
      return nil
    }
    let renounced = RingSupport.renounce(device: device)
    abandon()
    return RingFailure(reason: reason, losesMount: !renounced)
  }

  /// Sends the threads away unless they serve already.
  func abandon() {
    state.update { if $0.phase != .serving { $0.phase = .abandoned } }
  }

  /// Whether a thread has not ended.
  var isServing: Bool {
    let total = threads.count
    return state.read { $0.ended < total }
  }

  /// Interrupts threads that wait for requests.
  func interrupt() {
    for thread in threads { thread.interrupt(Signals.wake) }
  }

  /// Waits for the end of every thread.
  func join() {
    for thread in threads { thread.join() }
  }

  /// The life of one queue's thread.
  private static func live(_ queue: RingQueue, _ state: Monitor<State>) {
    do throws(RingFailure) {
      try queue.prepare()
      state.update { $0.prepared += 1 }
      if state.wait({ $0.phase == .preparing ? nil : $0.phase }) == .registering {
        try queue.register()
        state.update { $0.registered += 1 }
        if state.wait({ $0.phase == .registering ? nil : $0.phase }) == .serving { queue.serve() }
      }
    } catch {
      state.update { $0.failure = $0.failure ?? error.reason }
    }
    queue.close()
    state.update { $0.ended += 1 }
  }
}
