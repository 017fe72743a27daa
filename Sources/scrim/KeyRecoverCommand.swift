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

  @Option(help: ArgumentHelp("Read the new passphrase from this file.", valueName: "file"))
  var newPassphraseFile: PathArgument?

  @Option(help: "What each guess of the passphrase costs in memory and time.")
  var kdfCost = KeyCostName.default

  func run() throws {
    let header = try Vault.inspect(at: vault.text)
    let key = try recoveryKey()
    // A wrong key is told before a new passphrase is thought of.
    _ = try header.unlock(.recovery(key))
    let passphrase =
      try newPassphraseFile.map(SecretFile.passphrase)
      ?? Terminal.askTwice("New passphrase for \(vault.text): ")
    let slot = try Vault.addSlot(
      at: vault.text, unlockedBy: .recovery(key),
      SlotRequest(secret: .passphrase(passphrase), label: ""), cost: kdfCost.cost)
    try Output.line("the new passphrase is slot \(slot)")
    try Output.line(
      "'scrim key list' shows the slots, 'scrim key remove' takes a lost passphrase's away")
  }

  private func recoveryKey() throws(Failure) -> RecoveryKey {
    if let recoveryKeyFile { return try SecretFile.recoveryKey(recoveryKeyFile) }
    let typed = try Terminal.ask("Recovery key of \(vault.text): ")
    let text = typed.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    return try SecretFile.recoveryKey(text, from: "what was typed")
  }
}
