import ArgumentParser
import Glibc
import Primitives
import Vault

/// What opens a vault: a passphrase from a file or the terminal, a key file, or the recovery key.
/// Never arguments or the environment, which other processes can read.
struct SecretOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Read the passphrase from this file, without a newline at its end; '-' is standard input.",
      valueName: "file"))
  var passphraseFile: PathArgument?

  @Option(help: ArgumentHelp("Open the vault with this key file.", valueName: "file"))
  var keyFile: PathArgument?

  @Option(
    help: ArgumentHelp("Open the vault with the recovery key in this file.", valueName: "file"))
  var recoveryKeyFile: PathArgument?

  func validate() throws {
    guard [passphraseFile, keyFile, recoveryKeyFile].count(where: { $0 != nil }) <= 1 else {
      throw ValidationError(
        "--passphrase-file, --key-file and --recovery-key-file exclude each other")
    }
  }

  /// The secret, asked for on the terminal where no option says where it is.
  func secret(for vault: PathArgument) throws(Failure) -> VaultSecret {
    if let passphraseFile { return .passphrase(try SecretFile.passphrase(passphraseFile)) }
    if let keyFile { return .keyFile(try SecretFile.key(keyFile)) }
    if let recoveryKeyFile { return .recovery(try SecretFile.recoveryKey(recoveryKeyFile)) }
    return .passphrase(try Terminal.ask("Passphrase for \(vault.text): "))
  }
}

extension PathArgument {
  /// The bytes as a C string.
  var terminated: [CChar] { bytes.map { CChar(bitPattern: $0) } + [0] }
}
