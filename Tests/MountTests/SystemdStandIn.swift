import CLinux
import Glibc
import Synchronization

/// What systemd does with scrim-broker.socket: listens, and starts a broker of root's for one connection.
final class SystemdStandIn: Sendable {
  private static let folder = "/run/scrim"
  private static let path = "\(folder)/broker.socket"
  private static let programs = ["/usr/local/libexec", "/usr/libexec"].map {
    "\($0)/scrim/scrim-broker"
  }

  /// Not where Scrim is installed: a mount would find that program, or that socket, first.
  static var isPossible: Bool {
    geteuid() == 0 && getenv("SCRIM_BROKER") == nil
      && ([folder] + programs).allSatisfy {
        access($0, F_OK) != 0
      }
  }

  private let listener: Int32
  private let service: Service

  init() throws {
    let program = try ServerProcess.executable("scrim-broker")
    mkdir(Self.folder, 0o755)
    listener = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0)
    service = Service(listener: listener, program: program)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Self.path.utf8) }
    let bound = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard bound == 0, chmod(Self.path, 0o666) == 0, listen(listener, 1) == 0 else {
      throw ServerProcess.failure("listening")
    }
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        Unmanaged<Service>.fromOpaque(argument).takeRetainedValue().serve()
        return nil
      }, Unmanaged.passRetained(service).toOpaque())
    pthread_detach(thread)
  }

  deinit {
    // Wakes the thread where nobody ever connected.
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
    unlink(Self.path)
    rmdir(Self.folder)
  }

  /// The one connection, on a thread of its own.
  private final class Service: Sendable {
    let listener: Int32
    let program: String
    let broker = Mutex<pid_t>(0)

    init(listener: Int32, program: String) {
      self.listener = listener
      self.program = program
    }

    func serve() {
      let connection = accept(listener, nil, nil)
      guard connection >= 0 else { return }
      var process: pid_t = 0
      if scrim_spawn_helper(program, connection, &process) == 0 {
        broker.withLock { $0 = process }
      }
      close(connection)
    }
  }

  /// Waits for the broker's end; whether there was one and it ended well.
  func brokerEnds() -> Bool {
    let process = service.broker.withLock { $0 }
    var status: Int32 = -1
    return process > 0 && waitpid(process, &status, 0) == process && status == 0
  }
}
