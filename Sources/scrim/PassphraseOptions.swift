import ArgumentParser
import Primitives
import Vault

/// Where a passphrase is: in a file, with a command, behind a descriptor, or in somebody's head. Never in arguments or
/// the environment, which other processes can read.
struct PassphraseOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Read the passphrase from this file, without a newline at its end; '-' is standard input.",
      valueName: "file"))
  var passphraseFile: PathArgument?

  @Option(
    help: ArgumentHelp(
      "Take as passphrase what this command prints, run by /bin/sh, without a newline at its end.",
      valueName: "command"))
  var passphraseCommand: String?

  @Option(
    name: .customLong("passphrase-fd"),
    help: ArgumentHelp("Read the passphrase from this inherited descriptor.", valueName: "number"))
  var passphraseDescriptor: Int32?

  @Option(
    help: ArgumentHelp(
      "Ask by this program instead of on the terminal: pinentry, pinentry-gnome3 …",
      valueName: "program"))
  var pinentry: String?

  func validate() throws {
    guard count <= 1 else {
      throw ValidationError(
        "--passphrase-file, --passphrase-command and --passphrase-fd exclude each other")
    }
    guard passphraseDescriptor ?? 0 >= 0 else {
      throw ValidationError("--passphrase-fd takes the number of an open descriptor")
    }
  }

  /// How many of the places were named.
  var count: Int {
    (passphraseFile == nil ? 0 : 1) + (passphraseCommand == nil ? 0 : 1)
      + (passphraseDescriptor == nil ? 0 : 1)
  }

  /// The passphrase, if an option says where it is.
  func secret() throws(Failure) -> VaultSecret? {
    try Self.secret(passphraseFile, passphraseCommand, passphraseDescriptor)
  }

  /// The passphrase from the one of three places that is named; what a command prints makes slots of its own kind.
  static func secret(
    _ file: PathArgument?, _ command: String?, _ descriptor: Int32?
  ) throws(Failure) -> VaultSecret? {
    if let file { return .passphrase(try SecretFile.passphrase(file)) }
    if let command { return .command(try SecretCommand.passphrase(command)) }
    if let descriptor { return .passphrase(try SecretFile.passphrase(descriptor: descriptor)) }
    return nil
  }

  /// Who asks where no option says it.
  var prompt: Prompt { Prompt(program: pinentry) }
}
