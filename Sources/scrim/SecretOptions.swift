import ArgumentParser
import Glibc
import Primitives
import Vault

/// What opens a vault: a passphrase from a file, a command, a descriptor, systemd or the terminal, a key file, or the
/// recovery key. Never arguments or the environment, which other processes can read.
struct SecretOptions: ParsableArguments {
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

  @Option(help: ArgumentHelp("Open the vault with this key file.", valueName: "file"))
  var keyFile: PathArgument?

  @Option(
    help: ArgumentHelp("Open the vault with the recovery key in this file.", valueName: "file"))
  var recoveryKeyFile: PathArgument?

  /// Whether one of the options says where a secret is.
  var isGiven: Bool {
    passphraseFile != nil || passphraseCommand != nil || passphraseDescriptor != nil
      || keyFile != nil
      || recoveryKeyFile != nil
  }

  func validate() throws {
    let files = [passphraseFile, keyFile, recoveryKeyFile].count { $0 != nil }
    let others = (passphraseCommand == nil ? 0 : 1) + (passphraseDescriptor == nil ? 0 : 1)
    guard files + others <= 1 else {
      throw ValidationError(
        "--passphrase-file, --passphrase-command, --passphrase-fd, --key-file and "
          + "--recovery-key-file exclude each other")
    }
    guard passphraseDescriptor ?? 0 >= 0 else {
      throw ValidationError("--passphrase-fd takes the number of an open descriptor")
    }
  }

  /// The secret, asked for on the terminal where no option says where it is.
  func secret(for vault: PathArgument) throws(Failure) -> VaultSecret {
    if let passphraseFile { return .passphrase(try SecretFile.passphrase(passphraseFile)) }
    if let keyFile { return .keyFile(try SecretFile.key(keyFile)) }
    if let recoveryKeyFile { return .recovery(try SecretFile.recoveryKey(recoveryKeyFile)) }
    if let passphraseCommand {
      return .passphrase(try SecretCommand.passphrase(passphraseCommand))
    }
    if let passphraseDescriptor {
      return .passphrase(try SecretFile.passphrase(descriptor: passphraseDescriptor))
    }
    if let credential = Self.credential {
      return .passphrase(try SecretFile.passphrase(credential))
    }
    return .passphrase(try Terminal.ask("Passphrase for \(vault.text): "))
  }

  /// What systemd's `LoadCredential=scrim-passphrase:…` put there (systemd.exec(5)).
  private static var credential: PathArgument? {
    guard let folder = getenv("CREDENTIALS_DIRECTORY") else { return nil }
    let path = Array(UnsafeRawBufferPointer(start: folder, count: strlen(folder)))
    let file = PathArgument(bytes: path + "/scrim-passphrase".utf8)
    return access(file.terminated, F_OK) == 0 ? file : nil
  }
}

extension PathArgument {
  /// The bytes as a C string.
  var terminated: [CChar] { bytes.map { CChar(bitPattern: $0) } + [0] }
}
