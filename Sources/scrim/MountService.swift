import Container
import Glibc
import Logging
import Mount
import Primitives
import Synchronization
import Vault

/// Serves a mount until it ends, in the foreground or as the daemon.
struct MountService {
  let command: MountCommand
  let reporter: MountReporter

  /// The daemon's whole life: takes the passphrase from its starter, and reports to it.
  static func runAsDaemon(_ command: MountCommand, channel: DaemonChannel) -> Never {
    Session.blockTerminationSignals()
    DaemonProcess.detach()
    let reporter = MountReporter(channel: channel, keepsStandardError: command.logFile != nil)
    do {
      guard case .secret(let secret)? = channel.receive() else {
        throw Failure(.mountFailed, "the daemon was given no passphrase")
      }
      try LogDestination(foreground: false, file: command.logFile).install(level: command.logLevel)
      try MountService(command: command, reporter: reporter).serve(secret)
      Glibc.exit(0)
    } catch {
      let failure =
        Failure(describing: error) ?? Failure(.mountFailed, "the mount failed: \(error)")
      reporter.failed(failure)
      Glibc.exit(failure.exit.rawValue)
    }
  }

  /// Opens the vault, mounts it, and returns when it was unmounted and everything is on disk.
  func serve(_ secret: VaultSecret) throws {
    let settings = try command.settings()
    var options = settings.session
    if !settings.keepsRoot, let servant = Servant(vault: command.vaultPath, options: options) {
      options.servant = servant
      if options.passthrough { options.broker = StartedBroker() }
      try servant.enter()
    }
    let path = PathArgument(bytes: Array(command.vaultPath.utf8))
    let vault =
      options.readOnly
      ? try Vault.open(at: path.text, secret: secret, access: .readOnly)
      : try LeavingWriter.open(
        path, secret, advice: "--read-only works beside it",
        workspace: Workspace(writesBehind: true))
    do {
      let root = try settings.subdirectory.map { try VaultWalk(vault).directory($0) }
      try Mount.run(
        vault: vault, root: root, mountPoint: command.mountpoint.text, options: options,
        logger: Logger(label: "scrim"), onReady: reporter.ready)
    } catch {
      // The reason the mount failed counts, not what closing makes of it.
      try? vault.close()
      throw error
    }
    try vault.close()
  }
}

/// Tells whoever waits for a mount how it goes: the starter of a daemon, or the terminal.
final class MountReporter: Sendable {
  private let channel: DaemonChannel?
  private let keepsStandardError: Bool
  private let isReady = Atomic<Bool>(false)

  /// - Parameters:
  ///   - channel: To the daemon's starter; nil in the foreground.
  ///   - keepsStandardError: Whether it is the log, or still the starter's.
  init(channel: DaemonChannel?, keepsStandardError: Bool) {
    self.channel = channel
    self.keepsStandardError = keepsStandardError
  }

  /// The mount answers.
  func ready(_ notes: [String]) {
    guard let channel else {
      for note in notes { Output.complain(note) }
      ServiceManager.ready()
      return
    }
    for note in notes { channel.send(.note(note)) }
    // Not before: on a mount point of autofs only systemd's own process group may look at what is to be mounted there, and
    // mount(8) and its helper are in it.
    setsid()
    // The daemon must not keep a directory busy that its starter happened to be in, nor a pipe.
    _ = chdir("/")
    if !keepsStandardError {
      let null = open("/dev/null", O_WRONLY | O_CLOEXEC)
      if null >= 0 {
        dup2(null, STDERR_FILENO)
        close(null)
      }
    }
    // Where nobody waits for this mount any longer it ends as if asked to.
    if !channel.send(.ready) { kill(getpid(), SIGTERM) }
    isReady.store(true, ordering: .relaxed)
    close(channel.descriptor)
  }

  /// The mount did not come up, or did not end well.
  func failed(_ failure: Failure) {
    if let channel, !isReady.load(ordering: .relaxed), channel.send(.failure(failure)) { return }
    Logger(label: "scrim").error("\(failure.message)")
  }
}
