import BrokerProtocol
import CLinux
import Glibc
import SystemPackage

/// The real broker in its own process, spoken to in its own protocol.
final class BrokerProcess {
  private(set) var pid: pid_t = 0
  private let socket: Int32

  init(_ program: String? = nil) throws {
    var ends: [Int32] = [-1, -1]
    guard scrim_socket_pair(&ends, 60) == 0 else { throw ServerProcess.failure("socketpair") }
    socket = ends[0]
    let result = scrim_spawn_helper(
      try program ?? ServerProcess.executable("scrim-broker"), ends[1], &pid)
    close(ends[1])
    guard result == 0 else { throw TransportTestError(description: "spawn: \(result)") }
  }

  deinit {
    close(socket)
    if pid > 0 {
      kill(pid, SIGKILL)
      waitpid(pid, nil, 0)
    }
  }

  /// The answer to a message; nil when the broker ended instead.
  func ask(_ message: BrokerMessage, _ descriptors: [Int32]) -> BrokerMessage? {
    var words = (message.kind, message.value)
    let sent = withUnsafeBytes(of: &words) {
      scrim_send_message(socket, $0.baseAddress, 8, descriptors, descriptors.count)
    }
    return sent == 0 ? answer() : nil
  }

  func answer(_ request: BrokerRequest, _ descriptors: [Int32], value: Int32 = 0) -> BrokerAnswer? {
    ask(BrokerMessage(request, value: value), descriptors).flatMap {
      BrokerAnswer(rawValue: $0.kind)
    }
  }

  /// Sends bytes that are no message; whether the broker ended.
  func endsAfter(_ bytes: [UInt8]) -> Bool {
    bytes.withUnsafeBytes { scrim_send_message(socket, $0.baseAddress, $0.count, nil, 0) } == 0
      && answer() == nil
  }

  private func answer() -> BrokerMessage? {
    var words: (UInt32, Int32) = (0, 0)
    var none = [Int32](repeating: -1, count: Int(SCRIM_MOST_DESCRIPTORS))
    var count = 0
    let length = withUnsafeMutableBytes(of: &words) {
      scrim_receive_message(socket, $0.baseAddress, 8, &none, &count)
    }
    return length == 8 ? BrokerMessage(kind: words.0, value: words.1) : nil
  }

  /// Closes our end and waits: the exit status.
  func closeAndWait() -> Int32 {
    shutdown(socket, Int32(SHUT_RDWR))
    var status: Int32 = -1
    waitpid(pid, &status, 0)
    pid = 0
    return status
  }

  /// A line of /proc/PID/status without its heading.
  func processStatus(_ heading: String) -> String? {
    guard let file = fopen("/proc/\(pid)/status", "r") else { return nil }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 4096)
    while fgets(&line, Int32(line.count), file) != nil {
      let text = String(
        decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      let words = text.split(whereSeparator: \.isWhitespace)
      if words.first == "\(heading):" { return words.dropFirst().joined(separator: " ") }
    }
    return nil
  }
}

/// Folders for the broker to judge, and descriptors that end with this.
final class BrokerGround {
  let base: String
  let vault: String
  private var descriptors: [Int32] = []

  init() throws {
    var template = Array("/dev/shm/scrim-broker-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw ServerProcess.failure("mkdtemp") }
    base = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    vault = "\(base)/vault"
    for folder in ["vault", "vault/tree", "vault2", "other"] { mkdir("\(base)/\(folder)", 0o755) }
    for folder in ["vault", "vault2"] {
      try ServerProcess.write(
        Array("SCRIMVLT and the rest".utf8), to: "\(base)/\(folder)/scrim.vault")
    }
    for name in ["vault/tree/file", "vault2/file", "other/file", "other/scrim.vault"] {
      try ServerProcess.write(Array("content".utf8), to: "\(base)/\(name)")
    }
  }

  deinit {
    for descriptor in descriptors { close(descriptor) }
    system("rm -rf '\(base)'")
  }

  /// Opens a path, from `base` unless absolute.
  func open(_ path: String, _ flags: Int32) throws -> Int32 {
    let path = path.hasPrefix("/") ? path : "\(base)/\(path)"
    return try keep(Glibc.open(path, flags | O_CLOEXEC))
  }

  func keep(_ descriptor: Int32) throws -> Int32 {
    guard descriptor >= 0 else { throw ServerProcess.failure("open") }
    descriptors.append(descriptor)
    return descriptor
  }

  /// A broker that has been shown the vault.
  func greetedBroker() throws -> BrokerProcess {
    let broker = try BrokerProcess()
    let answer = broker.answer(
      .greet,
      [try open("vault", scrim_O_PATH | O_DIRECTORY), try open("vault/scrim.vault", O_RDONLY)])
    guard answer == .done else {
      throw TransportTestError(description: "greeted with \(String(describing: answer))")
    }
    return broker
  }
}
