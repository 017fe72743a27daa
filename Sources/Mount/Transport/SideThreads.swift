import Glibc
import Primitives
import Synchronization
import SystemPackage

/// Threads beside a queue's own, for requests that are likely to wait for a disk: they must not keep other
/// requests of the processor waiting.
///
/// Only the queue's thread touches its ring, so what is done comes back to it, with a signal that ends its wait.
final class SideThreads: Sendable {
  /// A request in an entry.
  struct Work: @unchecked Sendable {
    // An entry belongs to one thread at a time: to the queue's again once it is taken from `finished`.
    let entry: RingEntry
    let commit: UInt64
    let kind: UInt32
    var nanoseconds: UInt64 = 0
  }

  private struct State {
    var waiting: [Work] = []
    var finished: [Work] = []
    /// Threads that wait for work.
    var idle = 0
    var threads: [WorkerThread] = []
    var isEnding = false
  }

  private let session: Session
  private let limit: Int
  private let owner: pthread_t
  private let state = Monitor(State())
  private let hasFinished = Atomic(false)

  /// Belongs to the calling thread, which must sleep with ``Signals/wake`` unblocked and work with it blocked.
  ///
  /// - Parameters:
  ///   - session: Whose requests they are.
  ///   - limit: Threads at most; they are started as they are needed.
  init(session: Session, limit: Int) {
    self.session = session
    self.limit = limit
    owner = pthread_self()
  }

  /// Has a thread run a request. False where there is none and none can be started.
  func run(_ work: Work) -> Bool {
    let needsThread = state.update { state in
      state.waiting.append(work)
      return state.waiting.count > state.idle && state.threads.count < limit
    }
    guard needsThread else { return true }
    do throws(MountError) {
      let thread = try Session.start("scrim-side") { self.live() }
      state.change { $0.threads.append(thread) }
      return true
    } catch {
      // Threads that are there take it in their time.
      return state.change { state in
        if state.threads.isEmpty { state.waiting.removeAll() }
        return !state.threads.isEmpty
      }
    }
  }

  /// What has been done since the last call.
  func takeFinished() -> [Work] {
    guard hasFinished.exchange(false, ordering: .acquiring) else { return [] }
    return state.change { state in
      defer { state.finished = [] }
      return state.finished
    }
  }

  /// Waits for the end of every thread, and of what it does.
  func end() {
    let threads = state.update { state in
      state.isEnding = true
      return state.threads
    }
    for thread in threads { thread.join() }
  }

  private func live() {
    RingHandler.serve(session) { handler in
      while var work = next() {
        let begin = Clock.nanoseconds()
        handler.run(work.entry)
        work.nanoseconds = Clock.nanoseconds() &- begin
        state.change { $0.finished.append(work) }
        if !hasFinished.exchange(true, ordering: .releasing) { pthread_kill(owner, Signals.wake) }
      }
    }
  }

  private func next() -> Work? {
    state.change { $0.idle += 1 }
    return state.wait { state -> Work?? in
      if let work = state.waiting.first {
        state.waiting.removeFirst()
        state.idle -= 1
        return .some(work)
      }
      return state.isEnding ? .some(nil) : nil
    }
  }
}

/// How long requests of a kind have been taking, as a running average.
struct Pace {
  /// From this mean on a kind is slow: the way to another thread and back costs a tenth of it.
  private static let slow: UInt64 = 400_000
  /// One that took longer counts as this, so that a disk that was busy once is forgotten soon.
  private static let longest: UInt64 = 5_000_000

  private var means = [UInt64](repeating: 0, count: 64)

  /// Whether a kind may wait for a disk for long.
  static func counts(_ kind: UInt32) -> Bool { kinds & (1 << UInt64(kind & 63)) != 0 && kind < 64 }

  private static let kinds: UInt64 = [
    Wire.Opcode.read, Wire.Opcode.write, Wire.Opcode.fsync, Wire.Opcode.flush,
    Wire.Opcode.fsyncDirectory,
  ].reduce(0) { $0 | 1 << UInt64($1) }

  func isSlow(_ kind: UInt32) -> Bool { Pace.counts(kind) && means[Int(kind)] > Pace.slow }

  mutating func note(_ kind: UInt32, _ nanoseconds: UInt64) {
    let sample = min(nanoseconds, Pace.longest)
    means[Int(kind)] = (means[Int(kind)] * 7 + sample) / 8
  }
}
