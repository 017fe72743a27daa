import ArgumentParser
import Logging
import Mount
import Primitives
import Vault

struct MountCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mount",
    abstract: "Mount a vault; returns once the mount answers.",
    discussion: """
      -o takes the words of mount(8): ro, allow_other, noexec, noatime …, and Scrim's own: \
      subdir=PATH, uid=N, gid=N, idle=DURATION, passthrough=off, io_uring=off, threads=N. docs/cli.md \
      has the list.
      """)

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @Argument(help: "An empty directory.")
  var mountpoint: PathArgument

  @OptionGroup var secrets: SecretOptions

  @Flag(name: [.short, .long], help: "Stay, and log to standard error; ^C unmounts.")
  var foreground = false

  @Flag(name: [.short, .long], help: "Refuse all changes; works beside a writer.")
  var readOnly = false

  @Option(
    help: ArgumentHelp(
      "Unmount after so long without use and without open files: 90s, 10m, 1h30m.",
      valueName: "duration"))
  var idle: DurationArgument?

  @Option(name: .customShort("o"), help: ArgumentHelp("Mount options.", valueName: "options"))
  var options: [String] = []

  @Option(
    help: ArgumentHelp(
      "Where the daemon logs; without it, to the system log.", valueName: "file"))
  var logFile: PathArgument?

  @Option(help: "The least level logged: trace, debug, info, notice, warning, error or critical.")
  var logLevel = Logger.Level.notice

  @Option(help: .private)
  var daemonChannel: Int32?

  func run() throws {
    if let daemonChannel {
      MountService.runAsDaemon(self, channel: DaemonChannel(descriptor: daemonChannel))
    }
    // What is wrong with the command line is said before a passphrase is asked for.
    let options = try settings().session
    _ = try vault.inspectVault()
    try mountpoint.requireText()
    try checkPlaces()
    try MountRemoval.clearDead(at: mountpoint)
    try Mount.check(mountPoint: mountpoint.text, options: options)
    let secret = try secrets.secret(for: vault)
    if foreground {
      Session.blockTerminationSignals()
      try LogDestination(foreground: true, file: logFile).install(level: logLevel)
      let reporter = MountReporter(channel: nil, keepsStandardError: true)
      try MountService(command: self, reporter: reporter).serve(secret)
    } else {
      try DaemonProcess.start(secret: secret)
    }
  }

  /// Neither may hide the other.
  private func checkPlaces() throws(Failure) {
    let (folder, point) = (vault.absolute, mountpoint.absolute)
    let slash = [UInt8(ascii: "/")]
    let why: String? =
      if folder == point {
        "is the vault's own folder"
      } else if point.starts(with: folder + slash) {
        "is in the vault's folder"
      } else if folder.starts(with: (point == slash ? [] : point) + slash) {
        "holds the vault's folder, which the mount would hide"
      } else {
        nil
      }
    guard let why else { return }
    throw Failure(
      .mountPointUnusable,
      "the mount point \(mountpoint.text) \(why); take an empty directory elsewhere")
  }

  /// The vault's folder from the root, since the daemon leaves its working directory.
  var vaultPath: String { String(decoding: vault.absolute, as: UTF8.self) }

  /// The options as the mount takes them.
  func settings() throws(Failure) -> MountSettings {
    var settings = MountSettings(session: SessionOptions(source: vaultPath))
    try MountOptionList(options).apply(to: &settings)
    if readOnly { settings.session.readOnly = true }
    if let idle { settings.session.idleMilliseconds = idle.milliseconds }
    return settings
  }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}
