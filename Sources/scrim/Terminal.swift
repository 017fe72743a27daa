import Glibc
import Primitives

/// Reading a passphrase from the controlling terminal with echo off.
enum Terminal {
  /// The longest passphrase taken, in bytes.
  static let longestPassphrase = 4096

  /// Asks once.
  static func ask(_ prompt: String) throws(Failure) -> SecretBytes {
    let terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)
    guard terminal >= 0 else {
      throw Failure(
        .noPassphrase, "there is no terminal to ask for the passphrase; use --passphrase-file")
    }
    defer { close(terminal) }

    var settings = termios()
    guard tcgetattr(terminal, &settings) == 0 else {
      throw Failure(
        .noPassphrase, "the terminal's echo cannot be switched off; use --passphrase-file")
    }
    // An interrupt while echo is off would leave the user's shell without echo: hold it back.
    var held = sigset_t()
    var before = sigset_t()
    sigemptyset(&held)
    for signal in [SIGINT, SIGTERM, SIGQUIT, SIGTSTP, SIGHUP] { sigaddset(&held, signal) }
    sigprocmask(SIG_BLOCK, &held, &before)
    var silent = settings
    silent.c_lflag &= ~tcflag_t(ECHO | ISIG)
    tcsetattr(terminal, TCSAFLUSH, &silent)
    defer {
      tcsetattr(terminal, TCSAFLUSH, &settings)
      sigprocmask(SIG_SETMASK, &before, nil)
    }
    show(prompt, on: terminal)
    defer { show("\n", on: terminal) }
    return try readLine(from: terminal)
  }

  /// Asks until the same passphrase was typed twice.
  static func askTwice(_ prompt: String) throws(Failure) -> SecretBytes {
    for _ in 0..<3 {
      let first = try ask(prompt)
      if try ask("Once more: ") == first { return first }
      Output.complain("the two were not the same; try again")
    }
    throw Failure(.noPassphrase, "no passphrase was confirmed, so nothing was done")
  }

  private static func show(_ text: String, on terminal: Int32) {
    Array(text.utf8).withUnsafeBytes { _ = Descriptor.writeAll(terminal, $0) }
  }

  private static func readLine(from terminal: Int32) throws(Failure) -> SecretBytes {
    var typed = [UInt8]()
    typed.reserveCapacity(longestPassphrase)
    defer { typed.wipe() }
    while typed.count < longestPassphrase {
      var byte: UInt8 = 0
      let got = read(terminal, &byte, 1)
      if got < 0 && errno == EINTR { continue }
      // With signals off, ^C and ^D arrive as bytes: both give up.
      guard got == 1, byte != 3, byte != 4 else {
        throw Failure(.noPassphrase, "no passphrase was given, so nothing was done")
      }
      if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") { break }
      typed.append(byte)
    }
    guard !typed.isEmpty else { throw Failure(.noPassphrase, "the passphrase was empty") }
    return SecretBytes(copying: typed)
  }
}
