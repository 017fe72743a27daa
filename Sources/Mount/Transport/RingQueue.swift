import CFuse
import CLinux
import Glibc
import Logging
import Synchronization
import SystemPackage

/// One processor's queue: its ring, its entries, and the loop of the one thread that touches the ring.
final class RingQueue {
  private let session: Session
  private let index: Int
  private let depth: Int
  private var ring: Ring?
  private var entries: [RingEntry] = []
  /// Entries the kernel holds or will hold again.
  private var alive = 0
  /// Entries with a request that came while registering.
  private var early: [Int] = []
  private var side: SideThreads?
  private var pace = Pace()

  init(session: Session, index: Int, depth: Int) {
    self.session = session
    self.index = index
    self.depth = min(max(depth, 1), 64)
  }

  /// Makes the ring and its memory, on the thread that will use them.
  func prepare() throws(RingFailure) {
    // A handler that runs where its caller runs finds the request in the cache. A processor that is possible but
    // offline, or not ours to use, cannot be pinned to; the thread then runs anywhere.
    _ = scrim_pin_thread(Int32(index))
    do throws(Errno) {
      ring = try Ring(entries: depth, device: session.device)
      try ring?.listen(to: Signals.wake)
    } catch {
      throw RingFailure(reason: Self.reason(error))
    }
    side = SideThreads(session: session, limit: min(depth, 8))
    for entry in 0..<depth {
      guard let made = RingEntry(index: entry) else {
        throw RingFailure(reason: "no memory for the rings")
      }
      entries.append(made)
    }
  }

  /// Tells the kernel about every entry.
  func register() throws(RingFailure) {
    guard let ring else { return }
    for entry in entries
    where !ring.register(
      entry: entry.index, queue: UInt16(index), vectors: entry.registration)
    {
      throw RingFailure(reason: "queue \(index) has no room for its entries")
    }
    let submitted = ring.submit()
    guard submitted == depth else {
      throw RingFailure(reason: "queue \(index) could not be submitted (\(submitted))")
    }
    alive = depth
    var refused: Int32 = 0
    while let completion = ring.next() {
      if completion.result < 0 {
        refused = -completion.result
        alive -= 1
      } else {
        early.append(completion.entry)
      }
    }
    guard alive > 0 else {
      throw RingFailure(
        reason: "the kernel refused queue \(index): \(Errno(rawValue: refused))")
    }
  }

  /// Handles requests until the connection ends.
  func serve() {
    RingHandler.serve(session) { handler in
      for entry in early { handle(entry, handler) }
      while alive > 0, !session.stopping.load(ordering: .relaxed) {
        guard step(handler) else { break }
      }
    }
  }

  /// Ends the ring; entries the kernel still held are taken from it.
  func close() {
    side?.end()
    ring = nil
    entries = []
  }

  /// Sends what is due, waits, handles what came. False when the ring is of no use any more.
  private func step(_ handler: RingHandler) -> Bool {
    guard let ring else { return false }
    let result = ring.submitAndWait()
    guard result >= 0 || [-EINTR, -EAGAIN, -EBUSY, -ETIME].contains(result) else {
      lost("waiting on queue \(index): \(Errno(rawValue: -result))")
      return false
    }
    let finished = side?.takeFinished() ?? []
    for work in finished {
      pace.note(work.kind, work.nanoseconds)
      commit(work.entry, work.commit)
    }
    var completion = ring.next()
    if !finished.isEmpty, completion != nil { _ = ring.submit() }
    while let (entry, result) = completion {
      if result >= 0, entries.indices.contains(entry) {
        handle(entry, handler)
      } else {
        alive -= 1
        noteEnd(result)
      }
      completion = ring.next()
      // Another request is here already: the reply to the one before must not wait for it.
      if completion != nil { _ = ring.submit() }
    }
    return true
  }

  /// Runs one request and queues its reply, or has another thread run it.
  private func handle(_ index: Int, _ handler: RingHandler) {
    let entry = entries[index]
    let work = SideThreads.Work(entry: entry, commit: entry.commitID, kind: entry.opcode)
    if pace.isSlow(work.kind), side?.run(work) == true { return }
    if Pace.counts(work.kind) {
      let begin = Clock.nanoseconds()
      handler.run(entry)
      pace.note(work.kind, Clock.nanoseconds() &- begin)
    } else {
      handler.run(entry)
    }
    commit(entry, work.commit)
  }

  private func commit(_ entry: RingEntry, _ commit: UInt64) {
    if ring?.commit(entry: entry.index, queue: UInt16(index), commit: commit) != true {
      lost("queue \(index) is full")
    }
  }

  private func noteEnd(_ result: Int32) {
    // ENOTCONN, ECONNABORTED and ECANCELED are how the end of the connection reaches a ring.
    if ![-ENOTCONN, -ECONNABORTED, -ECANCELED].contains(result) {
      session.logger.error("queue \(index) lost an entry: \(Errno(rawValue: -result))")
    }
    if alive == 0, result != -ENOTCONN, result != -ECONNABORTED {
      lost("queue \(index) has no entry left")
    }
  }

  /// A queue that does not serve would leave every process on its processor waiting for ever.
  private func lost(_ reason: String) {
    guard !session.stopping.load(ordering: .relaxed) else { return }
    session.logger.critical("\(reason): giving up the mount")
    session.abort()
  }

  private static func reason(_ error: Errno) -> String {
    switch error {
    case .notPermitted, .permissionDenied:
      "this process may not use io_uring (sysctl kernel.io_uring_disabled, or a seccomp filter)"
    case .noFunction: "the kernel has no io_uring"
    case .invalidArgument: "the kernel's io_uring is too old for it"
    default: "io_uring could not be set up: \(error)"
    }
  }
}
