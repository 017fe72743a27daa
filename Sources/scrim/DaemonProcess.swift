import Glibc
import Primitives
import Vault

/// Starts the daemon of a mount and waits until it answers.
///
/// The program is started anew rather than forked: a fork would share locked memory and threads.
enum DaemonProcess {
  /// Runs this very program with the arguments it was given and a channel, and returns once the
  /// mount answers.
  static func start(secret: VaultSecret) throws(Failure) {
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0
    else { throw Failure(.system, "no socket pair for the daemon: \(Output.errnoText())") }
    let channel = DaemonChannel(descriptor: ends[0])
    defer { close(ends[0]) }

    let process = try spawn(channelEnd: ends[1])
    close(ends[1])
    channel.send(.secret(secret))
    try Patience.during("opening the vault") { () throws(Failure) in
      try wait(for: process, on: channel)
    }
  }

  private static func wait(for process: pid_t, on channel: DaemonChannel) throws(Failure) {
    while let message = channel.receive() {
      switch message {
      case .note(let text): Output.complain(text)
      case .ready: return
      case .failure(let failure):
        _ = reap(process)
        throw failure
      case .secret: break
      }
    }
    throw Failure(
      .mountFailed, "the daemon \(reap(process)) before the mount was ready; see its log")
  }

  /// Waits for a process that has ended or is about to, and says how it did.
  private static func reap(_ process: pid_t) -> String {
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 {
      guard errno == EINTR else { return "ended" }
    }
    let signal = status & 0x7f
    return signal == 0
      ? "ended with status \((status >> 8) & 0xff)" : "was killed by signal \(signal)"
  }

  private static func spawn(channelEnd: Int32) throws(Failure) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // The channel first: opening 0 and 1 could otherwise hit its number.
    posix_spawn_file_actions_adddup2(&actions, channelEnd, DaemonChannel.childDescriptor)
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)

    var arguments: [UnsafeMutablePointer<CChar>?] = []
    for index in 0..<Int(CommandLine.argc) {
      arguments.append(CommandLine.unsafeArgv[index].flatMap { strdup($0) })
    }
    // Before a `--`, after which it would be taken for a path.
    let option = arguments.firstIndex { $0.map { strcmp($0, "mount") == 0 } ?? false }
    arguments.insert(
      strdup("--daemon-channel=\(DaemonChannel.childDescriptor)"), at: (option ?? 0) + 1)
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }

    var process: pid_t = 0
    let code = posix_spawn(&process, "/proc/self/exe", &actions, nil, arguments, environ)
    guard code == 0 else {
      throw Failure(.system, "the daemon could not be started: \(Output.errnoText(code))")
    }
    return process
  }

  /// Cuts what ties the started process to its starter but the channel and the session.
  static func detach() {
    // Started through /proc/self/exe, it would go by the name of "exe".
    try? Sys.setThreadName(Array("scrim".utf8))
    umask(0)
    // posix_spawn hands on everything that was not marked close-on-exec: another program's
    // pipes, which would stay open as long as the mount.
    let inherited = Folder.names("/proc/self/fd").compactMap { Int32($0) }
      .filter { $0 > DaemonChannel.childDescriptor }
    for descriptor in inherited { close(descriptor) }
  }
}
