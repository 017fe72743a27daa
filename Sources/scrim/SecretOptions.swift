import ArgumentParser
import Glibc
import Primitives

/// Where the passphrase comes from: a file, or the terminal. Never arguments or the environment,
/// which other processes can read.
struct SecretOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Read the passphrase from this file, without a trailing newline.",
      discussion: "'-' is standard input. Without the option it is asked for on the terminal.",
      valueName: "file"))
  var passphraseFile: PathArgument?

  /// The passphrase of a vault that exists.
  func passphrase(for vault: PathArgument) throws(Failure) -> SecretBytes {
    if let passphraseFile { return try Self.read(passphraseFile) }
    return try Terminal.ask("Passphrase for \(vault.text): ")
  }

  /// The passphrase of a vault to be made.
  func newPassphrase(for vault: PathArgument) throws(Failure) -> SecretBytes {
    if let passphraseFile { return try Self.read(passphraseFile) }
    return try Terminal.askTwice("New passphrase for \(vault.text): ")
  }

  private static func read(_ file: PathArgument) throws(Failure) -> SecretBytes {
    let isStandardInput = file.bytes == Array("-".utf8)
    let descriptor =
      isStandardInput ? STDIN_FILENO : open(file.terminated, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw Failure(
        .noPassphrase, "the passphrase file \(file.text) cannot be read: \(Output.errnoText())")
    }
    defer { if !isStandardInput { close(descriptor) } }

    var bytes = [UInt8](repeating: 0, count: Terminal.longestPassphrase + 2)
    defer { bytes.wipe() }
    let count = bytes.withUnsafeMutableBytes { Descriptor.readAll(descriptor, into: $0) }
    guard var length = count else {
      throw Failure(
        .noPassphrase, "the passphrase file \(file.text) cannot be read: \(Output.errnoText())")
    }
    if length > 0, bytes[length - 1] == UInt8(ascii: "\n") { length -= 1 }
    guard length > 0 else {
      throw Failure(.noPassphrase, "the passphrase file \(file.text) is empty")
    }
    guard length <= Terminal.longestPassphrase else {
      throw Failure(
        .noPassphrase,
        "the passphrase file \(file.text) is longer than \(Terminal.longestPassphrase) bytes")
    }
    return bytes.withUnsafeBytes {
      SecretBytes(copying: UnsafeRawBufferPointer(rebasing: $0[..<length]))
    }
  }
}

extension PathArgument {
  /// The bytes as a C string.
  var terminated: [CChar] { bytes.map { CChar(bitPattern: $0) } + [0] }
}
