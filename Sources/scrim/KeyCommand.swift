import ArgumentParser
import Vault

struct KeyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "key",
    abstract: "The keys that open a vault: passphrases, key files, recovery keys.",
    discussion: """
      Each key is a slot of the header that holds the vault's master key, wrapped. Changing slots \
      touches no data and works while the vault is mounted. Whoever has an old copy of the header \
      can still open it with an old key.
      """,
    subcommands: [
      KeyListCommand.self, KeyAddCommand.self, KeyChangeCommand.self, KeyRemoveCommand.self,
      KeyTestCommand.self, KeyRecoverCommand.self,
    ])
}

struct KeyListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the slots; needs no passphrase.")

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  func run() throws {
    let slots = try Vault.inspect(at: vault.text).slots.map(SlotFacts.init)
    if json { return try Output.json(slots) }
    for (index, slot) in slots.enumerated() { try Output.line("\(index)  \(slot.text)") }
  }
}

struct KeyAddCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Add a key. Without an option for it, a passphrase asked for on the terminal.")

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @OptionGroup(title: "What opens the vault now") var secrets: SecretOptions
  @OptionGroup(title: "The new key") var new: NewKeyOptions

  func run() throws {
    let present = try secrets.secret(for: vault)
    let (secret, discard) = try new.secret(for: vault)
    do {
      let slot = try Vault.addSlot(
        at: vault.text, unlockedBy: present,
        SlotRequest(secret: secret, label: new.label ?? ""), cost: new.kdfCost.cost)
      try Output.line("added slot \(slot)")
    } catch {
      discard()
      throw error
    }
    try new.show(secret)
  }
}

struct KeyChangeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "change",
    abstract: "Replace the key that is given by another, in one step.")

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @OptionGroup(title: "The key to replace") var secrets: SecretOptions
  @OptionGroup(title: "The new key") var new: NewKeyOptions

  func run() throws {
    let present = try secrets.secret(for: vault)
    let (secret, discard) = try new.secret(for: vault)
    do {
      let slot = try Vault.replaceSlot(
        at: vault.text, openedBy: present,
        with: SlotRequest(secret: secret, label: new.label ?? ""), cost: new.kdfCost.cost)
      try Output.line("changed slot \(slot)")
    } catch {
      discard()
      throw error
    }
    try new.show(secret)
  }
}

struct KeyRemoveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Remove a slot; the last one stays.")

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @Argument(help: "The slot's number, as 'scrim key list' shows it.")
  var slot: Int

  @OptionGroup(title: "What opens the vault") var secrets: SecretOptions

  func run() throws {
    try Vault.removeSlot(
      at: vault.text, unlockedBy: try secrets.secret(for: vault), index: slot)
    try Output.line("removed slot \(slot)")
  }
}

struct KeyTestCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "test", abstract: "Tell which slot a key opens, if any.")

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @OptionGroup(title: "The key") var secrets: SecretOptions

  func run() throws {
    let header = try Vault.inspect(at: vault.text)
    let slot = try header.unlock(try secrets.secret(for: vault)).slot
    try Output.line("it opens slot \(slot)")
  }
}

/// A key to be made.
struct NewKeyOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Read the new passphrase from this file.", valueName: "file"))
  var newPassphraseFile: PathArgument?

  @Option(
    help: ArgumentHelp("Take this file, of 16 bytes or more, as the new key.", valueName: "file"))
  var newKeyFile: PathArgument?

  @Flag(help: "Make a new recovery key and print it.")
  var newRecoveryKey = false

  @Option(
    help: ArgumentHelp("Make a new recovery key and write it to this file.", valueName: "file"))
  var newRecoveryFile: PathArgument?

  @Option(help: "A note of at most 64 bytes, shown by 'scrim key list'.")
  var label: String?

  @Option(help: "What each guess of a passphrase costs in memory and time.")
  var kdfCost = KeyCostName.default

  func validate() throws {
    let files = [newPassphraseFile, newKeyFile, newRecoveryFile].count { $0 != nil }
    guard files + (newRecoveryKey ? 1 : 0) <= 1 else {
      throw ValidationError("one new key at a time")
    }
    guard (label ?? "").utf8.count <= 64 else {
      throw ValidationError("a label has at most 64 bytes")
    }
  }

  /// The new secret, and what undoes its making where it comes to nothing.
  func secret(for vault: PathArgument) throws(Failure) -> (VaultSecret, discard: () -> Void) {
    if let newPassphraseFile {
      return (.passphrase(try SecretFile.passphrase(newPassphraseFile)), {})
    }
    if let newKeyFile { return (.keyFile(try SecretFile.key(newKeyFile)), {}) }
    if let newRecoveryFile {
      let key = RecoveryKey.random()
      let file = try RecoveryFile(newRecoveryFile, key)
      return (.recovery(key), file.remove)
    }
    if newRecoveryKey { return (.recovery(RecoveryKey.random()), {}) }
    return (.passphrase(try Terminal.askTwice("New passphrase for \(vault.text): ")), {})
  }

  /// Prints a recovery key that went to no file.
  func show(_ secret: VaultSecret) throws(Failure) {
    guard case .recovery(let key) = secret, newRecoveryFile == nil else { return }
    try Output.line("the new recovery key, shown only now:")
    try Output.line("  \(key.text)")
  }
}
