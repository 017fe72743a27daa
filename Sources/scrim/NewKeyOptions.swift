import ArgumentParser
import Vault

/// A passphrase to be made.
struct NewPassphraseOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Read the new passphrase from this file; '-' is standard input.", valueName: "file"))
  var newPassphraseFile: PathArgument?

  @Option(
    help: ArgumentHelp(
      "Take as new passphrase what this command prints; 'key list' shows such a slot as one.",
      valueName: "command"))
  var newPassphraseCommand: String?

  @Option(
    name: .customLong("new-passphrase-fd"),
    help: ArgumentHelp(
      "Read the new passphrase from this inherited descriptor.", valueName: "number"))
  var newPassphraseDescriptor: Int32?

  @Option(help: "A note of at most 64 bytes, shown by 'scrim key list'.")
  var label: String?

  @Option(help: .keyCost)
  var kdfCost = KeyCostArgument.standard

  func validate() throws {
    guard count <= 1 else { throw ValidationError("one new key at a time") }
    guard newPassphraseDescriptor ?? 0 >= 0 else {
      throw ValidationError("--new-passphrase-fd takes the number of an open descriptor")
    }
    guard (label ?? "").utf8.count <= 64 else {
      throw ValidationError("a label has at most 64 bytes")
    }
  }

  var count: Int {
    (newPassphraseFile == nil ? 0 : 1) + (newPassphraseCommand == nil ? 0 : 1)
      + (newPassphraseDescriptor == nil ? 0 : 1)
  }

  /// The new passphrase, asked for where no option says where it is.
  func secret(for vault: PathArgument, asking prompt: Prompt) throws(Failure) -> VaultSecret {
    let given = try PassphraseOptions.secret(
      newPassphraseFile, newPassphraseCommand, newPassphraseDescriptor)
    if let given { return given }
    return .passphrase(try prompt.askNew(vault))
  }

  /// The slot to make.
  func request(_ secret: VaultSecret) -> SlotRequest {
    SlotRequest(secret: secret, label: label ?? "")
  }

  /// The cost of a slot for this secret; only passphrases have one.
  func cost(of secret: VaultSecret) throws -> KeyCost {
    switch secret {
    case .passphrase, .command: try kdfCost.cost()
    case .keyFile, .recovery: .standard
    }
  }
}

/// A key to be made.
struct NewKeyOptions: ParsableArguments {
  @OptionGroup var passphrase: NewPassphraseOptions

  @Option(
    help: ArgumentHelp("Take this file, of 16 bytes or more, as the new key.", valueName: "file"))
  var newKeyFile: PathArgument?

  @Flag(help: "Make a new recovery key and print it.")
  var newRecoveryKey = false

  @Option(
    help: ArgumentHelp("Make a new recovery key and write it to this file.", valueName: "file"))
  var newRecoveryFile: PathArgument?

  func validate() throws {
    let files = [newKeyFile, newRecoveryFile].count { $0 != nil }
    guard files + passphrase.count + (newRecoveryKey ? 1 : 0) <= 1 else {
      throw ValidationError("one new key at a time")
    }
  }

  /// The new secret, and what undoes its making where it comes to nothing.
  func secret(
    for vault: PathArgument, asking prompt: Prompt
  ) throws(Failure) -> (VaultSecret, discard: () -> Void) {
    if let newKeyFile { return (.keyFile(try SecretFile.key(newKeyFile)), {}) }
    if let newRecoveryFile {
      let key = RecoveryKey.random()
      let file = try RecoveryFile(newRecoveryFile, key)
      return (.recovery(key), file.remove)
    }
    if newRecoveryKey { return (.recovery(RecoveryKey.random()), {}) }
    return (try passphrase.secret(for: vault, asking: prompt), {})
  }

  /// Prints a recovery key that went to no file.
  func show(_ secret: VaultSecret) throws(Failure) {
    guard case .recovery(let key) = secret, newRecoveryFile == nil else { return }
    try Output.line("the new recovery key, shown only now:")
    try Output.line("  \(key.text)")
  }
}

extension ArgumentHelp {
  /// Of `--kdf-cost`.
  static var keyCost: ArgumentHelp {
    ArgumentHelp(
      """
      What each guess of the passphrase costs: low, default or high, or how long it is to take on this machine (2s, 500ms).
      """, valueName: "cost")
  }
}
