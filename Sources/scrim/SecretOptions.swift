import ArgumentParser
import Glibc
import Vault

/// What opens a vault: a passphrase, a key file, or the recovery key.
struct SecretOptions: ParsableArguments {
  @OptionGroup var passphrase: PassphraseOptions

  @Option(help: ArgumentHelp("Open the vault with this key file.", valueName: "file"))
  var keyFile: PathArgument?

  @Option(
    help: ArgumentHelp("Open the vault with the recovery key in this file.", valueName: "file"))
  var recoveryKeyFile: PathArgument?

  /// Whether one of the options says where a secret is.
  var isGiven: Bool {
    passphrase.count > 0 || passphrase.pinentry != nil || keyFile != nil || recoveryKeyFile != nil
  }

  func validate() throws {
    let files = [keyFile, recoveryKeyFile].count { $0 != nil }
    guard files + passphrase.count <= 1 else {
      throw ValidationError("a passphrase, --key-file and --recovery-key-file exclude each other")
    }
  }

  /// The secret, asked for where no option says where it is.
  func secret(for vault: PathArgument) throws(Failure) -> VaultSecret {
    if let keyFile { return .keyFile(try SecretFile.key(keyFile)) }
    if let recoveryKeyFile { return .recovery(try SecretFile.recoveryKey(recoveryKeyFile)) }
    if let secret = try passphrase.secret() { return secret }
    if passphrase.pinentry == nil, let credential = Self.credential {
      return .passphrase(try SecretFile.passphrase(credential))
    }
    return .passphrase(try passphrase.prompt.ask("Passphrase for \(vault.text)"))
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
