import BrokerProtocol
import CLinux
import Glibc
import SystemPackage

/// Serves one mount: answers its requests until its process has ended or closed the channel.
struct Broker: ~Copyable {
  private let channel: BrokerChannel
  private let isPrivileged: Bool
  private var boundary: Boundary?
  /// Files that the kernel holds for this mount. It counts them for nobody, so they are counted here: no more than one process
  /// of the user may have open.
  private var registered = 0
  private let most: Int

  /// A broker for whoever is at the other end; `isPrivileged`: it has CAP_SYS_ADMIN to lend.
  init(channel: consuming BrokerChannel, isPrivileged: Bool) {
    self.channel = channel
    self.isPrivileged = isPrivileged
    boundary = nil
    var limits = rlimit()
    let isKnown = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits) == 0
    most = isKnown ? Int(clamping: limits.rlim_max) : 1024
  }

  /// Returns when there is nobody left to serve, or somebody who does not keep to the protocol.
  mutating func serve() {
    let peer = scrim_peer_process(channel.descriptor)
    defer { if peer >= 0 { close(peer) } }
    while waitForRequest(peer) {
      do throws(Errno) {
        guard let receipt = try channel.receive() else { return }
        try channel.send(answer(receipt))
      } catch {
        return
      }
    }
  }

  /// False once the process that was served is gone, even where another still holds its end of the channel.
  private func waitForRequest(_ peer: Int32) -> Bool {
    var waiting = [
      pollfd(fd: channel.descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: peer, events: Int16(POLLIN), revents: 0),
    ]
    while true {
      let ready = poll(&waiting, 2, -1)
      if ready < 0 && errno == EINTR { continue }
      return ready > 0 && waiting[1].revents == 0
    }
  }

  /// Does what a message asks for. Its descriptors are closed when this returns.
  private mutating func answer(_ receipt: consuming BrokerReceipt) -> BrokerMessage {
    guard isPrivileged else { return BrokerMessage(.noCapability) }
    let message = receipt.message
    switch (BrokerRequest(rawValue: message.kind), receipt.descriptors.count) {
    case (.greet, 2): return BrokerMessage(greet(receipt))
    case (.register, 2):
      return register(device: receipt.descriptors[0], backing: receipt.descriptors[1])
    case (.unregister, 1):
      return unregister(device: receipt.descriptors[0], id: message.value)
    default: return BrokerMessage(.malformed)
    }
  }

  private mutating func greet(_ receipt: consuming BrokerReceipt) -> BrokerAnswer {
    // The first greeting counts: a mount has one vault.
    guard boundary == nil else { return .malformed }
    boundary = Boundary(receipt.takeDescriptors())
    return boundary == nil ? .notAVault : .done
  }

  private mutating func register(device: Int32, backing: Int32) -> BrokerMessage {
    guard scrim_is_fuse_device(device) == 1 else { return BrokerMessage(.notFuse) }
    let verdict = boundary?.judge(backing) ?? .malformed
    guard verdict == .done else { return BrokerMessage(verdict) }
    guard registered < most else { return BrokerMessage(Errno.tooManyOpenFiles) }
    let id = scrim_fuse_backing_open(device, backing)
    guard id > 0 else { return BrokerMessage(Errno(rawValue: errno)) }
    registered += 1
    return BrokerMessage(.done, value: id)
  }

  private mutating func unregister(device: Int32, id: Int32) -> BrokerMessage {
    guard scrim_is_fuse_device(device) == 1 else { return BrokerMessage(.notFuse) }
    guard scrim_fuse_backing_close(device, id) == 0 else {
      return BrokerMessage(Errno(rawValue: errno))
    }
    registered = max(registered - 1, 0)
    return BrokerMessage(.done)
  }
}
