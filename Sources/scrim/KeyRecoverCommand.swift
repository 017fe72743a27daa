import ArgumentParser
import Primitives
import Vault

struct KeyRecoverCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recover",
    abstract: "Set a new passphrase with the recovery key.",
    discussion: """
      Adds a slot. The lost passphrase keeps its own until 'scrim key remove' takes it away.
      """)

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @Option(
    help: ArgumentHelp(
      "Read the recovery key from this file instead of asking for it.", valueName: "file"))
  var recoveryKeyFile: PathArgument?

  @Option(
    help: ArgumentHelp(
      "Ask by this program instead of on the terminal: pinentry, pinentry-gnome3 …",
      valueName: "program"))
  var pinentry: String?

  @OptionGroup(title: "The new passphrase") var new: NewPassphraseOptions

  func run() throws {
    let header = try vault.inspectVault()
    let key = try recoveryKey()
    // A wrong key is told before a new passphrase is thought of.
    _ = try Patience.during("opening the vault") { try header.unlock(.recovery(key)) }
    let passphrase = try new.secret(for: vault, asking: Prompt(program: pinentry))
    let cost = try new.cost(of: passphrase)
    let slot = try Patience.during("wrapping the vault's key") {
      try Vault.addSlot(
        at: vault.text, unlockedBy: .recovery(key), new.request(passphrase), cost: cost)
    }
    try Output.line("the new passphrase is slot \(slot)")
    try new.kdfCost.tell(try vault.inspectVault().slots[slot])
    try Output.line(
      "'scrim key list' shows the slots, 'scrim key remove' takes a lost passphrase's away")
  }

  private func recoveryKey() throws(Failure) -> RecoveryKey {
    if let recoveryKeyFile { return try SecretFile.recoveryKey(recoveryKeyFile) }
    let typed = try Prompt(program: pinentry).ask("Recovery key of \(vault.text)")
    let text = typed.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    return try SecretFile.recoveryKey(text, from: "what was typed")
  }
}
