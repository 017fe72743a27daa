import Glibc
import Testing

/// What the transport tests cannot do without.
struct TransportTestError: Error, CustomStringConvertible {
  let description: String
}

/// Whether this machine lets a test mount anything, and if not, why.
enum FuseDevice {
  static let problem: String? = {
    let device = open("/dev/fuse", O_RDWR | O_CLOEXEC)
    guard device >= 0 else {
      return "/dev/fuse cannot be opened: \(String(cString: strerror(errno)))"
    }
    close(device)
    return geteuid() == 0 ? nil : "mounting in these tests takes root"
  }()

  static var isUsable: Bool {
    if let problem { print("skipped: \(problem)") }
    return problem == nil
  }

  static var offersRings: Bool {
    var byte: CChar = 0
    let file = open("/sys/module/fuse/parameters/enable_uring", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return false }
    defer { close(file) }
    return read(file, &byte, 1) == 1 && byte == 0x59
  }
}

/// A MountTestServer in its own process, with its folders; everything is gone when the object is.
final class ServerProcess {
  let mountPoint: String
  let backing: String
  private(set) var pid: pid_t = 0
  /// The line that begins with `ready`.
  private(set) var ready = ""
  private let base: String
  private var input: Int32 = -1
  private var output: Int32 = -1
  private var buffered: [UInt8] = []

  /// Starts a server with `files` in its backing folder and waits until it serves.
  /// As another `user` it owns the folders, and gets `environment`, words `NAME=VALUE`.
  init(
    _ settings: [String] = [], files: [String: [UInt8]] = [:], user: uid_t? = nil,
    environment: [String] = []
  ) throws {
    var template = Array("/dev/shm/scrim-transport-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Self.failure("mkdtemp") }
    base = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    mountPoint = "\(base)/mount"
    backing = "\(base)/backing"
    mkdir(mountPoint, 0o755)
    mkdir(backing, 0o755)
    chmod(base, 0o755)
    for (name, content) in files { try Self.write(content, to: "\(backing)/\(name)") }
    try spawn(settings, user: user, environment: environment)
    ready = try line(startingWith: "ready")
  }

  deinit {
    if pid > 0 {
      kill(pid, SIGKILL)
      waitpid(pid, nil, 0)
    }
    umount2(mountPoint, Int32(MNT_DETACH))
    if input >= 0 { close(input) }
    if output >= 0 { close(output) }
    let remove = "rm -rf '\(base)'"
    system(remove)
  }

  static func failure(_ what: String) -> TransportTestError {
    TransportTestError(description: "\(what): \(String(cString: strerror(errno)))")
  }

  static func write(_ content: [UInt8], to path: String) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard file >= 0 else { throw failure("open \(path)") }
    defer { close(file) }
    guard content.withUnsafeBytes({ Glibc.write(file, $0.baseAddress, $0.count) }) == content.count
    else { throw failure("write \(path)") }
  }

  /// The server's program lies beside the test bundle.
  static func executable(_ name: String = "MountTestServer") throws -> String {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count)
    guard count > 0 else { throw failure("readlink") }
    let path = String(decoding: buffer[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    // The toolchain may run the bundle itself or load it from the directory it is called in.
    let candidates = [path] + CommandLine.arguments
    for candidate in candidates {
      guard let slash = candidate.lastIndex(of: "/") else { continue }
      let program = "\(candidate[..<slash])/\(name)"
      if access(program, X_OK) == 0 { return program }
    }
    throw TransportTestError(description: "\(name) is not beside \(path)")
  }

  /// The server's words as another user: run from a copy, as a checkout may be in a folder of root's.
  private func words(_ settings: [String], user: uid_t?, environment: [String]) throws -> [String] {
    let program = try Self.executable()
    guard let user else { return [program, mountPoint, backing] + settings }
    let copy = "\(base)/server"
    let prepare = "cp '\(program)' '\(copy)' && chown -R \(user):\(user) '\(base)'"
    guard system(prepare) == 0 else { throw Self.failure("copying the server") }
    return ["/usr/bin/setpriv", "--reuid=\(user)", "--regid=\(user)", "--clear-groups"]
      + ["/usr/bin/env"] + environment + [copy, mountPoint, backing] + settings
  }

  private func spawn(_ settings: [String], user: uid_t?, environment: [String]) throws {
    let words = try words(settings, user: user, environment: environment)
    let program = words[0]
    var toChild: [Int32] = [0, 0]
    var fromChild: [Int32] = [0, 0]
    // Other tests start their servers meanwhile, which must not inherit any end: Glibc's module has no pipe2.
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &toChild) == 0, socketpair(AF_UNIX, kind, 0, &fromChild) == 0
    else { throw Self.failure("socketpair") }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, toChild[0], 0)
    posix_spawn_file_actions_adddup2(&actions, fromChild[1], 1)
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { word in strdup(word) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    let result = posix_spawn(&pid, program, &actions, nil, arguments, nil)
    close(toChild[0])
    close(fromChild[1])
    input = toChild[1]
    output = fromChild[0]
    guard result == 0 else { throw TransportTestError(description: "spawn: \(result)") }
  }

  /// The next line of the server that begins so; fails after a minute.
  func line(startingWith prefix: String) throws -> String {
    while true {
      while let newline = buffered.firstIndex(of: 10) {
        let line = String(decoding: buffered[..<newline], as: UTF8.self)
        buffered.removeSubrange(...newline)
        if line.hasPrefix(prefix) { return line }
      }
      var waiting = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
      guard poll(&waiting, 1, 60_000) == 1 else {
        throw TransportTestError(description: "no line \(prefix) in a minute")
      }
      var chunk = [UInt8](repeating: 0, count: 4096)
      let count = chunk.withUnsafeMutableBytes { read(output, $0.baseAddress, $0.count) }
      guard count > 0 else {
        throw TransportTestError(
          description:
            "the server ended before \(prefix): \(String(decoding: buffered, as: UTF8.self))")
      }
      buffered += chunk[..<count]
    }
  }

  /// One of the server's counters.
  func statistic(_ name: String) throws -> Int {
    _ = Glibc.write(input, "\n", 1)
    let line = try line(startingWith: "stats")
    for word in line.split(separator: " ") where word.hasPrefix("\(name)=") {
      if let value = Int(word.dropFirst(name.count + 1)) { return value }
    }
    throw TransportTestError(description: "no \(name) in \(line)")
  }

  /// Waits until a counter has a value; RELEASE, for one, comes after close has returned.
  func waitFor(_ name: String, toBe value: Int) throws -> Bool {
    for _ in 0..<600 {
      if try statistic(name) == value { return true }
      usleep(100_000)
    }
    return false
  }

  func signal(_ number: Int32) { kill(pid, number) }

  /// Unmounts as another process would. Busy is what the mount is while a child of another test, not yet at its
  /// program, has a copy of our descriptors.
  func unmount() -> Bool {
    for _ in 0..<600 {
      if umount2(mountPoint, 0) == 0 { return true }
      guard errno == EBUSY else { return false }
      usleep(100_000)
    }
    return false
  }

  /// The server's last line and wait status, once it is gone.
  func end() throws -> (line: String, status: Int32) {
    let line = try line(startingWith: "end")
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    pid = 0
    return (line, status)
  }

  /// Reaps a server that was killed.
  func reap() {
    waitpid(pid, nil, 0)
    pid = 0
  }

  /// Whether the mount table has our mount.
  var isMounted: Bool {
    guard let file = fopen("/proc/self/mountinfo", "r") else { return false }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 4096)
    while fgets(&line, Int32(line.count), file) != nil {
      let text = String(
        decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      if text.contains(" \(mountPoint) ") { return true }
    }
    return false
  }
}

/// Plain file calls with errno as the result.
enum Client {
  static func open(_ path: String, _ flags: Int32 = O_RDONLY) throws -> Int32 {
    let file = Glibc.open(path, flags | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw ServerProcess.failure("open \(path)") }
    return file
  }

  /// Reads a range; fails on an error, returns what there is.
  static func read(_ file: Int32, _ count: Int, at offset: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let got = bytes.withUnsafeMutableBytes { pread(file, $0.baseAddress, $0.count, off_t(offset)) }
    guard got >= 0 else { throw ServerProcess.failure("pread") }
    return Array(bytes[..<got])
  }

  static func write(_ file: Int32, _ bytes: [UInt8], at offset: Int) throws {
    let put = bytes.withUnsafeBytes { pwrite(file, $0.baseAddress, $0.count, off_t(offset)) }
    guard put == bytes.count else { throw ServerProcess.failure("pwrite") }
  }

  static func readAll(_ path: String) throws -> [UInt8] {
    let file = try open(path)
    defer { close(file) }
    var result: [UInt8] = []
    while true {
      let part = try read(file, 1 << 20, at: result.count)
      if part.isEmpty { return result }
      result += part
    }
  }
}

/// Runs `body` on `count` threads and waits; what they throw is collected.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) -> [String] {
  final class Job: @unchecked Sendable {
    let index: Int
    let body: @Sendable (Int) throws -> Void
    // Read only after the thread was joined.
    var failure: String?
    init(_ index: Int, _ body: @escaping @Sendable (Int) throws -> Void) {
      self.index = index
      self.body = body
    }
  }
  let jobs = (0..<count).map { Job($0, body) }
  let threads = jobs.map { job in
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        let job = Unmanaged<Job>.fromOpaque(argument).takeUnretainedValue()
        do { try job.body(job.index) } catch { job.failure = "\(error)" }
        return nil
      }, Unmanaged.passUnretained(job).toOpaque())
    return thread
  }
  for thread in threads { pthread_join(thread, nil) }
  return jobs.compactMap { $0.failure }
}
