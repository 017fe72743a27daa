import CFuse
import Glibc
import Logging
import Primitives
import Synchronization
import SystemPackage

/// Serving: threads, signals and the end.
extension Session {
  /// Blocks the signals that end a mount in the calling thread and those it starts.
  ///
  /// Call it before the process starts any thread; otherwise one that does not block them dies of them,
  /// and the process with it, without unmounting.
  public static func blockTerminationSignals() {
    Signals.block(Signals.termination + [Signals.quit])
  }

  /// Serves until the mount ends. Every thread it started is gone, and the mount too, when it returns.
  ///
  /// - Parameters:
  ///   - handlingSignals: SIGTERM, SIGINT and SIGHUP unmount; see ``blockTerminationSignals()``.
  ///   - onReady: called once, with the mount usable.
  /// - Returns: why it ended.
  /// - Throws: `handshakeFailed` when the connection ended before INIT, `io` when no thread could be started.
  public func run(
    handlingSignals: Bool = true, onReady: (Negotiated) -> Void = { _ in }
  ) throws(MountError) -> SessionEnd {
    defer { destroy() }
    Signals.installWake()
    if handlingSignals { Self.blockTerminationSignals() }
    let signals = handlingSignals ? try Session.start("scrim-signals") { self.serveSignals() } : nil
    var threads: [WorkerThread] = []
    let outcome = serve(&threads, onReady: onReady)
    awaitEnd(threads)
    for thread in threads { thread.join() }
    rings?.abandon()
    rings?.join()
    if let signals {
      signals.interrupt(Signals.quit)
      signals.join()
    }
    if case .failure(let error) = outcome { throw error }
    return state.read { $0.end } ?? .unmounted
  }

  private func serve(
    _ threads: inout [WorkerThread], onReady: (Negotiated) -> Void
  ) -> Result<Void, MountError> {
    do throws(MountError) {
      threads.append(try startDeviceWorker(expectsInit: true))
      let ready = state.wait { state -> Negotiated?? in
        if let negotiated = state.negotiated { return .some(negotiated) }
        return state.serving == 0 ? .some(nil) : nil
      }
      guard let ready else {
        throw .handshakeFailed(LibraryLog.last ?? "the connection was closed")
      }
      if stopping.load(ordering: .acquiring), case .unavailable(let reason) = ready.ioUring {
        throw .handshakeFailed(reason)
      }
      if case .device(let workers) = ready.transport {
        for _ in 1..<max(workers, 1) {
          threads.append(try startDeviceWorker(expectsInit: false))
        }
      }
      onReady(ready)
    } catch {
      shutDown(.stopped)
      return .failure(error)
    }
    return .success(())
  }

  /// Returns when no thread is needed any more, having woken those that sleep.
  private func awaitEnd(_ threads: [WorkerThread]) {
    state.wait { $0.serving == 0 || self.stopping.load(ordering: .acquiring) ? () : nil }
    if stopping.load(ordering: .acquiring) { wakeUntilIdle(threads) }
  }

  /// A signal that comes just before a thread blocks is lost, hence the repetition.
  private func wakeUntilIdle(_ threads: [WorkerThread]) {
    while state.read({ $0.serving }) > 0 || rings?.isServing == true {
      for thread in threads { thread.interrupt(Signals.wake) }
      rings?.interrupt()
      usleep(2000)
    }
  }

  private func startDeviceWorker(expectsInit: Bool) throws(MountError) -> WorkerThread {
    state.update { $0.serving += 1 }
    do throws(MountError) {
      return try Session.start("scrim-worker") {
        let worker = Worker(session: self)
        worker.expectsInit = expectsInit
        worker.serve { self.serveDevice($0) }
        self.state.update { $0.serving -= 1 }
      }
    } catch {
      state.update { $0.serving -= 1 }
      throw error
    }
  }

  /// Starts a thread of the mount.
  static func start(
    _ name: String, _ body: @escaping @Sendable () -> Void
  ) throws(MountError) -> WorkerThread {
    do throws(Errno) {
      return try WorkerThread(name: name, body: body)
    } catch {
      throw .io("starting a thread", error)
    }
  }

  /// Reads requests from the device until the connection ends.
  private func serveDevice(_ worker: Worker) {
    var buffer = fuse_buf()
    defer { free(buffer.mem) }
    while !stopping.load(ordering: .relaxed) {
      let count = fuse_session_receive_buf(session, &buffer)
      if count == -EINTR || count == -EAGAIN { continue }
      guard count > 0 else {
        if count < 0 {
          logger.error("reading /dev/fuse: \(Errno(rawValue: -count))")
        }
        return
      }
      let request = UnsafeRawBufferPointer(start: buffer.mem, count: Int(count))
      let opcode = RequestHead(request)?.opcode
      worker.begin(request)
      fuse_session_process_buf(session, &buffer)
      worker.end()
      // Beside rings little else comes this way, and nobody waits for it: those to come are fetched together.
      if isOverRings.load(ordering: .relaxed),
        opcode == Wire.Opcode.forget || opcode == Wire.Opcode.batchForget
      {
        usleep(Self.forgetPause)
      }
    }
  }

  /// Microseconds between two looks for what the kernel has forgotten.
  private static let forgetPause: UInt32 = 1000

  private func serveSignals() {
    let signal = Signals.wait(Signals.termination + [Signals.quit])
    guard signal != Signals.quit else { return }
    logger.info("signal \(signal): unmounting")
    shutDown(.signalled(signal))
    _ = Signals.wait([Signals.quit])
  }

  /// Ends serving without asking: what is in flight fails, the mount goes when the threads have left.
  func abort() {
    state.update { if $0.end == nil { $0.end = .stopped } }
    stopping.store(true, ordering: .releasing)
    state.update { _ in }
  }

  /// Unmounts. Where files are open the mount is detached, and they fail from now on.
  func shutDown(_ end: SessionEnd) {
    state.update { if $0.end == nil { $0.end = end } }
    let failure = Unmount.run(mountPoint, options: options)
    guard let failure else { return }
    logger.warning("\(mountPoint) is detached while in use: \(failure)")
    stopping.store(true, ordering: .releasing)
    state.update { _ in }
  }
}
