import ArgumentParser
import Container
import Glibc
import Vault

struct InitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init",
    abstract: "Make a vault in a new or empty folder.",
    discussion: """
      Prints a recovery key once, or writes it to a file: it opens the vault when the passphrase \
      is lost. Keep it somewhere else, on paper.
      """)

  @Argument(help: "The folder to make.")
  var vault: PathArgument

  @OptionGroup var passphrase: PassphraseOptions

  @Option(help: "A note for the passphrase's slot, of at most 64 bytes.")
  var label: String?

  @Option(
    help: ArgumentHelp("Write the recovery key here instead of printing it.", valueName: "file"))
  var recoveryFile: PathArgument?

  @Option(help: .keyCost)
  var kdfCost = KeyCostArgument.standard

  @Option(help: "How content is stored: sealed, sealed-compressed or compressed.")
  var content = ContentPolicy.sealed

  @Option(help: "How names are stored: sealed or plain.")
  var names = NamePolicy.sealed

  func validate() throws {
    guard (label ?? "").utf8.count <= 64 else {
      throw ValidationError("a label has at most 64 bytes")
    }
    guard content != .plain else {
      throw ValidationError(
        "a vault whose root is plain would be a folder with extra steps; mark directories plain later"
      )
    }
  }

  func run() throws {
    let folder = OwnedFolder(vault)
    try folder.check()
    let secret =
      try passphrase.secret() ?? .passphrase(try passphrase.prompt.askNew(vault))
    let cost = try kdfCost.cost()
    let recovery = RecoveryKey.random()
    // The key is safe before the vault exists: the other way round a full disk could lose it.
    let file = try recoveryFile.map { path throws(Failure) in try RecoveryFile(path, recovery) }
    do {
      try Patience.during("making the vault") {
        try Vault.create(
          at: vault.text,
          slots: [
            SlotRequest(secret: secret, label: label ?? ""),
            SlotRequest(secret: .recovery(recovery)),
          ],
          content: content, names: names, cost: cost)
      }
    } catch {
      file?.remove()
      throw error
    }
    try report(recovery)
  }

  private func report(_ recovery: RecoveryKey) throws {
    try Output.line("made the vault \(vault.text)")
    try kdfCost.tell(try vault.inspectVault().slots[0])
    if let recoveryFile {
      try Output.line("its recovery key is in \(recoveryFile.text); keep it apart from the vault")
    } else {
      try Output.line("its recovery key, shown only now (print it, keep it apart from the vault):")
      try Output.line("  \(recovery.text)")
    }
  }
}

/// The folder of a vault to be.
struct OwnedFolder {
  private let path: PathArgument

  init(_ path: PathArgument) { self.path = path }

  /// Refuses what holds anything, before the user thinks of a passphrase.
  func check() throws(Failure) {
    try path.requireText()
    if let around = Guess.vault(around: path) {
      throw Failure(
        .notEmpty,
        "\(path.text) is in the folder of the vault \(StatusText.safe(around)), which holds nothing else"
      )
    }
    var status = stat()
    guard stat(path.terminated, &status) == 0 else {
      guard errno == ENOENT else {
        throw Failure(.system, "\(path.text): \(Output.errnoText())")
      }
      let parent = path.parent
      guard access(parent.terminated, F_OK) == 0 else {
        throw Failure(.notFound, "\(parent.text) does not exist, so no vault can be made in it")
      }
      return
    }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw Failure(.notEmpty, "\(path.text) exists and is not a directory")
    }
    guard let directory = opendir(path.terminated) else {
      throw Failure(.system, "\(path.text): \(Output.errnoText())")
    }
    closedir(directory)
    guard Folder.names(path.text).isEmpty else {
      throw Failure(.notEmpty, "\(path.text) is not empty; a vault needs a folder of its own")
    }
  }
}

/// The file a recovery key goes to: never one that exists.
struct RecoveryFile {
  private let path: PathArgument

  init(_ path: PathArgument, _ key: RecoveryKey) throws(Failure) {
    self.path = path
    let descriptor = open(path.terminated, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw Failure(
        errno == EEXIST ? .notEmpty : .system,
        errno == EEXIST
          ? "the recovery file \(path.text) exists already and is not written over"
          : "the recovery file \(path.text) cannot be made: \(Output.errnoText())")
    }
    defer { close(descriptor) }
    let written = Array("\(key.text)\n".utf8).withUnsafeBytes {
      Descriptor.writeAll(descriptor, $0)
    }
    guard written, fsync(descriptor) == 0 || errno == EINVAL else {
      let reason = Output.errnoText()
      remove()
      throw Failure(.system, "the recovery file \(path.text) cannot be written: \(reason)")
    }
  }

  func remove() { unlink(path.terminated) }
}
