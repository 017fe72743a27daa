import ArgumentParser
import Glibc
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
    let slots = try vault.inspectVault().slots.map(SlotFacts.init)
    if json { return try Output.json(slots) }
    let width = Screen.size(STDOUT_FILENO)?.columns
    for (index, slot) in slots.enumerated() {
      try Output.line("\(index)  \(slot.text)".wrapped(to: width, indent: 3))
    }
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
    try KeyEdit(vault, secrets, new).run("added") { present, request, cost in
      try Vault.addSlot(at: vault.text, unlockedBy: present, request, cost: cost)
    }
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
    try KeyEdit(vault, secrets, new).run("changed") { present, request, cost in
      try Vault.replaceSlot(at: vault.text, openedBy: present, with: request, cost: cost)
    }
  }
}

/// What `add` and `change` have in common.
private struct KeyEdit {
  private let vault: PathArgument
  private let secrets: SecretOptions
  private let new: NewKeyOptions

  init(_ vault: PathArgument, _ secrets: SecretOptions, _ new: NewKeyOptions) {
    self.vault = vault
    self.secrets = secrets
    self.new = new
  }

  /// Takes both secrets, has the header changed, and tells; the new key is undone where that fails.
  func run(
    _ done: String, _ change: (VaultSecret, SlotRequest, KeyCost) throws -> Int
  ) throws {
    let header = try vault.inspectVault()
    let present = try secrets.secret(for: vault)
    // A wrong key is told before a new one is thought of.
    _ = try Patience.during("opening the vault") { try header.unlock(present) }
    let (secret, discard) = try new.secret(for: vault, asking: secrets.passphrase.prompt)
    do {
      let cost = try new.passphrase.cost(of: secret)
      let slot = try Patience.during("wrapping the vault's key") {
        try change(present, new.passphrase.request(secret), cost)
      }
      try Output.line("\(done) slot \(slot)")
      try new.passphrase.kdfCost.tell(try vault.inspectVault().slots[slot])
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
    let slots = try vault.inspectVault().slots
    guard slots.indices.contains(slot) else {
      throw Failure(
        .system, "there is no slot \(slot); 'scrim key list \(vault.text)' shows which there are")
    }
    let secret = try secrets.secret(for: vault)
    try Patience.during("opening the vault") {
      try Vault.removeSlot(at: vault.text, unlockedBy: secret, index: slot)
    }
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
    let header = try vault.inspectVault()
    let secret = try secrets.secret(for: vault)
    let slot = try Patience.during("opening the vault") { try header.unlock(secret).slot }
    try Output.line("it opens slot \(slot)")
  }
}
