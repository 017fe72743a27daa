import CFuse
import Glibc
import Logging

/// Runs requests that came in ring entries through libfuse; one for a thread.
final class RingHandler {
  private let worker: Worker
  private let flat = UnsafeMutableRawBufferPointer.allocate(
    byteCount: RingEntry.flatSize, alignment: 8)

  private init(_ worker: Worker) { self.worker = worker }

  deinit { flat.deallocate() }

  /// Makes the calling thread one that handles requests while `body` runs.
  static func serve(_ session: Session, _ body: (RingHandler) -> Void) {
    Worker(session: session).serve { body(RingHandler($0)) }
  }

  /// Runs the request in an entry, which holds the reply afterwards.
  func run(_ entry: RingEntry) {
    guard let request = entry.flatten(into: flat) else {
      worker.session.logger.error("a request with impossible lengths")
      entry.fail(EIO)
      return
    }
    worker.entry = entry
    worker.begin(request)
    var buffer = fuse_buf()
    buffer.mem = UnsafeMutableRawPointer(mutating: request.baseAddress)
    buffer.size = request.count
    fuse_session_process_buf(worker.session.session, &buffer)
    if !worker.replied {
      worker.session.logger.critical(
        "operation \(RequestHead(request)?.opcode ?? 0) returned without a reply")
      entry.fail(EIO)
    }
    worker.end()
  }
}
