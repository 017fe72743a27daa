import CFuse
import CLinux
import Glibc
import Logging
import Synchronization
import SystemPackage

/// One processor's queue: its ring, its entries, and the loop of the one thread that touches them.
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
  private let flat = UnsafeMutableRawBufferPointer.allocate(
    byteCount: RingEntry.flatSize, alignment: 8)

  init(session: Session, index: Int, depth: Int) {
    self.session = session
    self.index = index
    self.depth = min(max(depth, 1), 64)
  }

  deinit { flat.deallocate() }

  /// Makes the ring and its memory, on the thread that will use them.
  func prepare() throws(RingFailure) {
    // A handler that runs where its caller runs finds the request in the cache. A processor that is possible but
    // offline, or not ours to use, cannot be pinned to; the thread then runs anywhere.
    _ = scrim_pin_thread(Int32(index))
    do throws(Errno) {
      ring = try Ring(entries: depth, device: session.device)
    } catch {
      throw RingFailure(reason: Self.reason(error))
    }
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
    Worker(session: session).serve { worker in
      for entry in early { handle(entry, worker) }
      while alive > 0, !session.stopping.load(ordering: .relaxed) {
        guard step(worker) else { break }
      }
    }
  }

  /// Ends the ring; entries the kernel still held are taken from it.
  func close() {
    ring = nil
    entries = []
  }

  /// Sends what is due, waits, handles what came. False when the ring is of no use any more.
  private func step(_ worker: Worker) -> Bool {
    guard let ring else { return false }
    let result = ring.submitAndWait()
    guard result >= 0 || [-EINTR, -EAGAIN, -EBUSY, -ETIME].contains(result) else {
      lost("waiting on queue \(index): \(Errno(rawValue: -result))")
      return false
    }
    var completion = ring.next()
    while let (entry, result) = completion {
      if result >= 0, entries.indices.contains(entry) {
        handle(entry, worker)
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

  /// Runs one request through libfuse and queues its reply.
  private func handle(_ index: Int, _ worker: Worker) {
    let entry = entries[index]
    let commit = entry.commitID
    if let request = entry.flatten(into: flat) {
      worker.entry = entry
      worker.begin(request)
      var buffer = fuse_buf()
      buffer.mem = UnsafeMutableRawPointer(mutating: request.baseAddress)
      buffer.size = request.count
      fuse_session_process_buf(session.session, &buffer)
      if !worker.replied {
        session.logger.critical(
          "operation \(RequestHead(request)?.opcode ?? 0) returned without a reply")
        entry.fail(EIO)
      }
      worker.end()
    } else {
      session.logger.error("queue \(self.index): a request with impossible lengths")
      entry.fail(EIO)
    }
    guard ring?.commit(entry: index, queue: UInt16(self.index), commit: commit) == true else {
      lost("queue \(self.index) is full")
      return
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
