import Glibc
import Primitives
import Vault

/// Secrets in files, or on standard input where the file is `-`.
enum SecretFile {
  /// The longest key file taken, in bytes.
  private static let longestKey = 1 << 20

  /// A passphrase: the file without one newline at its end.
  static func passphrase(_ file: PathArgument) throws(Failure) -> SecretBytes {
    let bytes = try read(file, limit: Terminal.longestPassphrase + 1)
    return try line(bytes, of: "the passphrase file \(file.text)")
  }

  /// A passphrase from a descriptor that is open already, read to its end; it stays open.
  static func passphrase(
    descriptor: Int32, of source: String? = nil
  ) throws(Failure) -> SecretBytes {
    let source = source ?? "descriptor \(descriptor)"
    let bytes = try read(descriptor, of: source, limit: Terminal.longestPassphrase + 1)
    return try line(bytes, of: source)
  }

  private static func line(_ bytes: SecretBytes, of source: String) throws(Failure) -> SecretBytes {
    let isLine = bytes.withUnsafeBytes { $0.last == UInt8(ascii: "\n") }
    let secret = isLine ? bytes.slice(0..<(bytes.count - 1)) : bytes
    guard secret.count > 0 else { throw Failure(.noPassphrase, "\(source) is empty") }
    return secret
  }

  /// A key: every byte of the file.
  static func key(_ file: PathArgument) throws(Failure) -> SecretBytes {
    let bytes = try read(file, limit: longestKey)
    guard bytes.count >= 16 else {
      throw Failure(.noPassphrase, "the key file \(file.text) has fewer than 16 bytes")
    }
    return bytes
  }

  /// A recovery key as `init` wrote or printed it.
  static func recoveryKey(_ file: PathArgument) throws(Failure) -> RecoveryKey {
    let text = try read(file, limit: 1024).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    return try recoveryKey(text, from: file.text)
  }

  /// A recovery key as somebody typed it.
  static func recoveryKey(_ text: String, from source: String) throws(Failure) -> RecoveryKey {
    let line = text.filter { !$0.isNewline }
    guard let key = RecoveryKey(text: line) else {
      throw Failure(
        .wrongSecret, "\(source) holds no recovery key, or one with a typing mistake in it")
    }
    return key
  }

  private static func read(_ file: PathArgument, limit: Int) throws(Failure) -> SecretBytes {
    let isStandardInput = file.bytes == Array("-".utf8)
    let descriptor = isStandardInput ? STDIN_FILENO : open(file.terminated, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw unreadable(file.text) }
    defer { if !isStandardInput { close(descriptor) } }
    return try read(descriptor, of: file.text, limit: limit)
  }

  private static func read(
    _ descriptor: Int32, of source: String, limit: Int
  ) throws(Failure) -> SecretBytes {
    var count: Int? = 0
    let bytes = SecretBytes(count: limit + 1) { count = Descriptor.readAll(descriptor, into: $0) }
    guard let count else { throw unreadable(source) }
    guard count <= limit else {
      throw Failure(.noPassphrase, "\(source) is longer than \(limit) bytes")
    }
    return bytes.slice(0..<count)
  }

  private static func unreadable(_ source: String) -> Failure {
    Failure(.noPassphrase, "\(source) cannot be read: \(Output.errnoText())")
  }
}
