import BrokerProtocol
import CLinux
import Glibc
import Primitives
import Synchronization
import SystemPackage

/// Why there is no broker, in words for the user.
struct BrokerFailure: Error {
  let reason: String
}

/// Registers backing files through `scrim-broker`, which has the privilege that this process lacks.
///
/// The broker gets the session's descriptor with each request and keeps none, so that a mount whose process was killed
/// ends at once instead of hanging on the broker's copy.
final class BrokerRegistrar: BackingRegistrar {
  /// How long an answer may take: a broker that was stopped must not stop the mount.
  private static let patience: Int32 = 10

  private let device: Int32
  /// Nil once it broke: what is open stays as it is, what is opened later goes without passthrough.
  private let connection: Mutex<BrokerConnection?>

  /// Starts a broker for the vault in `folder`, or connects to one.
  ///
  /// - Parameters:
  ///   - device: the session's descriptor, which must outlive the registrar.
  ///   - folder: what holds `scrim.vault`.
  ///   - started: one that runs already.
  /// - Throws: `BrokerFailure` where there is none that would do.
  init(
    device: Int32, folder: String, started: StartedBroker? = nil
  ) throws(BrokerFailure) {
    self.device = device
    let found = try Self.take(started)
    try Self.greet(found, folder: folder)
    connection = Mutex(found)
  }

  private static func take(_ started: StartedBroker?) throws(BrokerFailure) -> BrokerConnection {
    if let ready = started?.take() { return ready }
    return try connect()
  }

  /// Asks the broker, which checks the descriptor first.
  ///
  /// - Throws: `.permissionDenied` where the broker refuses it, `.notConnected` where there is no broker any more, else
  ///   what the kernel said.
  func register(_ descriptor: Int32) throws(Errno) -> Int32 {
    try ask(BrokerMessage(.register), [device, descriptor])
  }

  /// Asks the broker; where it is gone, the ID goes with the mount.
  func unregister(_ backingID: Int32) {
    _ = try? ask(BrokerMessage(.unregister, value: backingID), [device])
  }

  private func ask(_ message: BrokerMessage, _ descriptors: [Int32]) throws(Errno) -> Int32 {
    let outcome = connection.withLock { connection -> Result<Int32, Errno> in
      guard let answer = connection?.perform(message, descriptors) else {
        connection = nil
        return .failure(.socketNotConnected)
      }
      return answer
    }
    return try outcome.get()
  }
}

/// A broker that was started while this process was root, which has the capability to lend.
public final class StartedBroker: Sendable {
  private let connection: Mutex<BrokerConnection?>

  /// Nil where there is none to start; what that means for passthrough is told when it is tried.
  public init?() {
    guard let started = try? BrokerRegistrar.connect() else { return nil }
    connection = Mutex(started)
  }

  /// The connection, once.
  fileprivate func take() -> BrokerConnection? {
    connection.withLock { $0.take() }
  }
}

/// A broker and the way to it.
private struct BrokerConnection: ~Copyable {
  /// Its program, or the socket it was reached through.
  let name: String
  let channel: BrokerChannel
  /// Zero where systemd started it.
  let process: pid_t

  /// Its channel closed, a broker ends; this makes sure where it may, and leaves no zombie.
  deinit {
    guard process > 0 else { return }
    // One that root started cannot be killed by whom root has become.
    shutdown(channel.descriptor, Int32(SHUT_RDWR))
    kill(process, SIGKILL)
    waitpid(process, nil, 0)
  }

  /// What the broker made of a request, or nil when it broke off.
  borrowing func perform(
    _ message: BrokerMessage, _ descriptors: [Int32]
  ) -> Result<Int32, Errno>? {
    guard let answer = channel.exchange(message, descriptors) else { return nil }
    switch BrokerAnswer(rawValue: answer.kind) {
    case .done: return .success(answer.value)
    case .systemError: return .failure(Errno(rawValue: answer.value))
    default: return .failure(.permissionDenied)
    }
  }
}

extension BrokerChannel {
  fileprivate borrowing func exchange(
    _ message: BrokerMessage, _ descriptors: [Int32]
  ) -> BrokerMessage? {
    do throws(Errno) {
      try send(message, descriptors)
      return try receive()?.message
    } catch {
      return nil
    }
  }
}

/// Finding and starting it.
extension BrokerRegistrar {
  /// Where systemd listens for us.
  private static let socketPath = "/run/scrim/broker.socket"

  fileprivate static func connect() throws(BrokerFailure) -> BrokerConnection {
    let program = program()
    if let program, getenv("SCRIM_BROKER") != nil || gainsCapability(program) {
      return try start(program)
    }
    let socket = scrim_connect(socketPath, patience)
    if socket >= 0 {
      return BrokerConnection(
        name: socketPath, channel: BrokerChannel(descriptor: socket), process: 0)
    }
    guard let program else {
      throw BrokerFailure(
        reason: "this process lacks CAP_SYS_ADMIN and there is no scrim-broker to lend it")
    }
    return try start(program)
  }

  /// Whether a program has more to lend than this process; one that has not can say why.
  private static func gainsCapability(_ program: String) -> Bool {
    if geteuid() == 0 { return true }
    guard scrim_may_gain_privileges() == 1,
      let file = try? Sys.openat(Sys.currentDirectory, Array(program.utf8), [.path])
    else { return false }
    let isSetUID = (try? Sys.fstatx(file.rawValue).mode).map { $0 & 0o4000 != 0 } ?? false
    let capability = try? Sys.getxattrPath(file.rawValue, Array("security.capability".utf8))
    return isSetUID || capability != nil
  }

  /// The program: where the environment says, else in the places where an installation and a build put it.
  private static func program() -> String? {
    if let named = getenv("SCRIM_BROKER") { return String(cString: named) }
    var candidates = ["/usr/local/libexec/scrim/scrim-broker", "/usr/libexec/scrim/scrim-broker"]
    if let link = try? Sys.readlinkat(Sys.currentDirectory, Array("/proc/self/exe".utf8)),
      let slash = link.lastIndex(of: UInt8(ascii: "/"))
    {
      let folder = String(decoding: link[..<slash], as: UTF8.self)
      candidates.insert("\(folder)/../libexec/scrim/scrim-broker", at: 0)
      candidates.append("\(folder)/scrim-broker")
    }
    return candidates.first { access($0, X_OK) == 0 }
  }

  private static func start(_ program: String) throws(BrokerFailure) -> BrokerConnection {
    var ends: [Int32] = [-1, -1]
    var result = scrim_socket_pair(&ends, patience)
    guard result == 0 else {
      throw BrokerFailure(reason: "no socket for the broker: \(Errno(rawValue: -result))")
    }
    let channel = BrokerChannel(descriptor: ends[0])
    var process: pid_t = 0
    result = scrim_spawn_helper(program, ends[1], &process)
    close(ends[1])
    guard result == 0 else {
      throw BrokerFailure(
        reason: "the broker \(program) could not be started: \(Errno(rawValue: -result))")
    }
    return BrokerConnection(name: program, channel: channel, process: process)
  }

  fileprivate static func lacksCapability(_ name: String) -> String {
    let hint =
      scrim_may_gain_privileges() == 1
      ? "as root: setcap cap_sys_admin+p \(name), on a filesystem not mounted nosuid"
      : "no_new_privs is set, which keeps every program from gaining it"
    return "the broker \(name) lacks CAP_SYS_ADMIN (\(hint))"
  }

  private static func greet(
    _ connection: borrowing BrokerConnection, folder: String
  ) throws(BrokerFailure) {
    let name = connection.name
    let answer: BrokerMessage?
    do throws(Errno) {
      let path = Array(folder.utf8)
      let directory = try Sys.openat(Sys.currentDirectory, path, [.path, .directory])
      let header = try Sys.openatWary(directory.rawValue, Array("scrim.vault".utf8), .readOnly)
      answer = connection.channel.exchange(
        BrokerMessage(.greet), [directory.rawValue, header.rawValue])
      try header.close()
      try directory.close()
    } catch {
      throw BrokerFailure(reason: "the vault cannot be shown to the broker: \(error)")
    }
    switch answer.map({ BrokerAnswer(rawValue: $0.kind) }) {
    case .done: return
    case .noCapability:
      throw BrokerFailure(reason: lacksCapability(name))
    case .notAVault:
      throw BrokerFailure(reason: "the broker \(name) does not take \(folder) for a vault")
    case nil: throw BrokerFailure(reason: "the broker \(name) ended at once")
    default: throw BrokerFailure(reason: "the broker \(name) is of another version")
    }
  }
}

/// What there is of a broker on this machine, found as a mount would.
public struct BrokerPresence: Sendable {
  /// Its program, or the socket it listens on; nil where there is none.
  public let name: String?
  /// Why it does not do, in words for the user; nil where it does.
  public let problem: String?

  /// Starts a broker, or connects to one, and asks whether it has the capability to lend.
  public static func find() -> BrokerPresence {
    do throws(BrokerFailure) {
      let connection = try BrokerRegistrar.connect()
      let name = connection.name
      // A request without its descriptor: refused as malformed, unless there is no capability to begin with.
      let answer = connection.channel.exchange(BrokerMessage(.unregister), [])
      switch answer.map({ BrokerAnswer(rawValue: $0.kind) }) {
      case .malformed: return BrokerPresence(name: name, problem: nil)
      case .noCapability:
        return BrokerPresence(name: name, problem: BrokerRegistrar.lacksCapability(name))
      default: return BrokerPresence(name: name, problem: "the broker \(name) ended at once")
      }
    } catch {
      return BrokerPresence(name: nil, problem: error.reason)
    }
  }
}
