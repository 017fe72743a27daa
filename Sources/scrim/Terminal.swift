import Glibc
import Primitives
import Synchronization

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
    // A signal while echo is off would leave the user's shell without echo: it is delivered
    // once everything is as it was.
    let signals = HeldSignals([SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGTSTP])
    defer { signals.deliver() }
    var silent = settings
    silent.c_lflag &= ~tcflag_t(ECHO)
    tcsetattr(terminal, TCSAFLUSH, &silent)
    defer { tcsetattr(terminal, TCSAFLUSH, &settings) }
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
      guard got == 1 else {
        throw Failure(.noPassphrase, "no passphrase was given, so nothing was done")
      }
      if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") { break }
      typed.append(byte)
    }
    guard !typed.isEmpty else { throw Failure(.noPassphrase, "the passphrase was empty") }
    return SecretBytes(copying: typed)
  }
}

/// Signals that are noted instead of acted on for a while; a read(2) they come into ends with EINTR.
private struct HeldSignals {
  private static let caught = Atomic<Int32>(0)
  private let before: [(signal: Int32, action: sigaction)]

  init(_ signals: [Int32]) {
    // Initialised here rather than in the handler, which may do very little.
    Self.caught.store(0, ordering: .relaxed)
    before = signals.map { signal in
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { Self.caught.store($0, ordering: .relaxed) }
      var old = sigaction()
      sigaction(signal, &action, &old)
      return (signal, old)
    }
  }

  /// Brings back what was before, and then has the last of them do what it does.
  func deliver() {
    for (signal, action) in before {
      var action = action
      sigaction(signal, &action, nil)
    }
    let signal = Self.caught.load(ordering: .relaxed)
    if signal != 0 { raise(signal) }
  }
}
