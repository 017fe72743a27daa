import CLinux
import Glibc
import Logging
import Primitives
import Synchronization
import SystemPackage

/// The INIT handshake, on the one worker that serves until it is done.
extension Session {
  /// Keeps what the kernel offers.
  func noteOffer(_ request: UnsafeRawBufferPointer) {
    guard let offer = InitOffer(request: request) else { return }
    state.update { $0.offer = offer }
  }

  /// Puts our wishes into libfuse's INIT reply; the result is the agreed capabilities, nil if untouched.
  func rewriteInit(_ reply: UnsafeMutableRawBufferPointer) -> UInt64? {
    guard let offer = state.read({ $0.offer }) else { return nil }
    var wishes = InitWishes()
    wishes.passthrough = options.passthrough && !options.writeback
    wishes.writeback = options.writeback && !options.readOnly
    wishes.stackDepth = options.stackDepth
    prepareRings(offer)
    wishes.overIOURing = rings != nil
    wishes.readDirPlus = hasReadDirPlus
    wishes.maxBackground = options.maxBackground
    wishes.congestionThreshold = options.congestionThreshold
    return InitReply.rewrite(reply, offer: offer, wishes: wishes)
  }

  /// The kernel has taken the reply. Nobody else serves yet, so what is found here holds for every request.
  func completeInit(_ agreed: UInt64?) {
    guard let offer = state.read({ $0.offer }) else { return }
    let capabilities = agreed ?? 0
    let probe = PassthroughProbe(
      options, device: device, agreed: capabilities & Wire.Capability.passthrough != 0,
      kernelMinor: offer.minor)
    let passthrough = probe.result
    if passthrough.isActive { backing.activate(probe.registrar) }
    let ioUring = startRings(agreed: capabilities & Wire.Capability.overIOURing != 0)
    isOverRings.store(ioUring.isActive, ordering: .relaxed)
    let negotiated = Negotiated(
      kernelMinor: offer.minor, capabilities: capabilities, passthrough: passthrough,
      ioUring: ioUring,
      transport: ioUring.isActive
        ? .rings(queues: rings?.queues ?? 0, depth: options.ringDepth)
        : .device(workers: deviceWorkers),
      readAheadKiB: raiseReadAhead())
    if options.ioUring == .on, case .unavailable(let reason) = ioUring {
      logger.warning("no io_uring: \(reason)")
    }
    logger.info(
      "serving",
      metadata: [
        "kernel": "7.\(offer.minor)", "transport": "\(negotiated.transport)",
        "passthrough": "\(passthrough)", "io_uring": "\(ioUring)",
      ])
    state.update { $0.negotiated = negotiated }
  }

  /// Device workers where there are no rings.
  var deviceWorkers: Int {
    max(options.workers ?? max(Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))), 2), 1)
  }

  /// Makes threads and rings where the kernel offers to use them.
  private func prepareRings(_ offer: InitOffer) {
    guard options.ioUring != .off else {
      ringRefusal = "switched off by option"
      return
    }
    guard offer.offers(Wire.Capability.overIOURing) else {
      ringRefusal = RingSupport.reasonNotOffered(kernelMinor: offer.minor)
      return
    }
    guard let queues = RingSupport.possibleProcessors() else {
      ringRefusal = "the number of possible processors is not known (/sys is not there)"
      return
    }
    do throws(RingFailure) {
      rings = try RingTransport(session: self, queues: queues, depth: options.ringDepth)
    } catch {
      ringRefusal = error.reason
    }
  }

  private func startRings(agreed: Bool) -> Availability {
    guard agreed, let rings else {
      rings?.abandon()
      return .unavailable(ringRefusal ?? "the INIT reply could not carry it")
    }
    guard let failure = rings.register(renouncing: device) else { return .active }
    if failure.losesMount { abort() }
    return .unavailable(failure.reason)
  }

  /// INIT can only lower the kernel's default of 128 KiB, which cuts sequential reads into pieces of that size.
  private func raiseReadAhead() -> Int? {
    guard let wanted = options.readAheadKiB, let readAhead else { return nil }
    let text = Array("\(wanted)".utf8)
    guard write(readAhead.rawValue, text, text.count) == text.count else {
      logger.debug("read-ahead stays as it is: \(Errno(rawValue: errno))")
      return nil
    }
    return wanted
  }
}
