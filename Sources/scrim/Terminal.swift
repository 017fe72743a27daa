import Glibc
import Primitives

/// Reading a passphrase from the controlling terminal with echo off.
enum Terminal {
  /// The longest passphrase taken, in bytes.
  static let longestPassphrase = 4096

  /// Whether there is one to ask on.
  static var isThere: Bool {
    let terminal = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY)
    if terminal >= 0 { close(terminal) }
    return terminal >= 0
  }

  private static let path = "/dev/tty"

  /// Asks once, with a line above the question if there is something to tell.
  static func ask(_ what: String, hint: String? = nil) throws(Failure) -> SecretBytes {
    let terminal = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY)
    guard terminal >= 0 else {
      throw Failure(
        .noPassphrase,
        "there is no terminal to ask for the passphrase; say where it is with --passphrase-file, "
          + "--passphrase-command or --pinentry")
    }
    defer { close(terminal) }

    var settings = termios()
    guard tcgetattr(terminal, &settings) == 0 else {
      throw Failure(
        .noPassphrase, "the terminal's echo cannot be switched off; use --passphrase-file")
    }
    // A signal while echo is off would leave the user's shell without echo: it is held back
    // until everything is as it was.
    let held = HeldSignals()
    defer { held.deliver() }
    var silent = settings
    silent.c_lflag &= ~tcflag_t(ECHO)
    tcsetattr(terminal, TCSAFLUSH, &silent)
    defer { tcsetattr(terminal, TCSAFLUSH, &settings) }
    show((hint.map { "\($0)\n" } ?? "") + "\(what): ", on: terminal)
    defer { show("\n", on: terminal) }
    return try readLine(from: terminal, until: held)
  }

  private static func show(_ text: String, on terminal: Int32) {
    Array(text.utf8).withUnsafeBytes { _ = Descriptor.writeAll(terminal, $0) }
  }

  private static func readLine(
    from terminal: Int32, until held: HeldSignals
  ) throws(Failure) -> SecretBytes {
    var typed = [UInt8]()
    typed.reserveCapacity(longestPassphrase)
    defer { typed.wipe() }
    while typed.count < longestPassphrase {
      var byte: UInt8 = 0
      guard held.waitForInput(on: terminal), read(terminal, &byte, 1) == 1 else {
        throw Failure(.noPassphrase, "no passphrase was given, so nothing was done")
      }
      if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") { break }
      typed.append(byte)
    }
    guard !typed.isEmpty else { throw Failure(.noPassphrase, "the passphrase was empty") }
    return SecretBytes(copying: typed)
  }
}

/// Holds back the signals that end a program, and tells when one has come.
private struct HeldSignals {
  private static let ending = [SIGINT, SIGTERM, SIGQUIT, SIGHUP]
  private var before = sigset_t()

  init() {
    var held = sigset_t()
    sigemptyset(&held)
    for signal in Self.ending + [SIGTSTP] { sigaddset(&held, signal) }
    sigprocmask(SIG_BLOCK, &held, &before)
  }

  /// Waits for input; false when a signal came first.
  func waitForInput(on descriptor: Int32) -> Bool {
    var input = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    while !hasCome {
      // Held signals do not wake poll(2), so it looks up now and then.
      if poll(&input, 1, 100) != 0 { return !hasCome }
    }
    return false
  }

  private var hasCome: Bool {
    var pending = sigset_t()
    sigpending(&pending)
    return Self.ending.contains { sigismember(&pending, $0) == 1 }
  }

  /// Lets what was held back take its course.
  func deliver() {
    var mask = before
    sigprocmask(SIG_SETMASK, &mask, nil)
  }
}
