import Glibc
import Primitives

/// Asks by a pinentry program, which speaks the Assuan protocol (the manuals of pinentry and libassuan).
enum Pinentry {
  /// The secret that was typed.
  static func ask(
    _ program: String, _ what: String, hint: String?
  ) throws(Failure) -> SecretBytes {
    let dialogue = try Dialogue(program)
    try dialogue.greet()
    for option in options() { dialogue.tryCommand("OPTION \(option)") }
    dialogue.tryCommand("SETTITLE Scrim")
    dialogue.tryCommand("SETPROMPT Passphrase:")
    let description = [hint, what].compactMap(\.self).joined(separator: "\n")
    dialogue.tryCommand("SETDESC \(escaped(description))")
    let secret = try dialogue.pin()
    guard secret.count > 0 else { throw Failure(.noPassphrase, "the passphrase was empty") }
    return secret
  }

  /// Where and in which language to ask: a program without a window asks on the terminal.
  private static func options() -> [String] {
    var options: [String] = []
    if Terminal.isThere {
      let name = [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO].lazy.compactMap { ttyname($0) }.first
      options.append("ttyname=\(name.map { String(cString: $0) } ?? "/dev/tty")")
      if let type = getenv("TERM") { options.append("ttytype=\(String(cString: type))") }
    }
    let language = ["LC_ALL", "LC_CTYPE", "LANG"].lazy.compactMap { (name: String) in
      getenv(name).map { String(cString: $0) }
    }.first
    if let language { options.append("lc-ctype=\(language)") }
    return options
  }

  private static func escaped(_ text: String) -> String {
    text.unicodeScalars.reduce(into: "") { escaped, scalar in
      switch scalar {
      case "%": escaped += "%25"
      case "\n": escaped += "%0A"
      case "\r": escaped += "%0D"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
  }
}

/// A pinentry program that runs, and what is said to it; it ends with this.
private struct Dialogue: ~Copyable {
  private static let longestLine = 4096

  private let program: String
  private let socket: Int32
  private let process: pid_t

  init(_ program: String) throws(Failure) {
    let (socket, process) = try Self.start(program)
    self.program = program
    self.socket = socket
    self.process = process
  }

  private static func start(_ program: String) throws(Failure) -> (socket: Int32, pid_t) {
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0
    else { throw Failure(.system, "no socket pair for \(program): \(Output.errnoText())") }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO)
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
    var arguments: [UnsafeMutablePointer<CChar>?] = [strdup(program), nil]
    defer { for argument in arguments { free(argument) } }
    var process: pid_t = 0
    let code = posix_spawnp(&process, program, &actions, nil, &arguments, environ)
    close(ends[1])
    guard code == 0 else {
      close(ends[0])
      throw Failure(
        .noPassphrase, "\(program) could not be started: \(Output.errnoText(code))")
    }
    return (ends[0], process)
  }

  deinit {
    close(socket)
    // It may wait for its user, who is asked for nothing any more.
    kill(process, SIGTERM)
    while waitpid(process, nil, 0) < 0 && errno == EINTR {}
  }

  borrowing func greet() throws(Failure) {
    guard starts(try line(), with: "OK") else {
      throw Failure(.noPassphrase, "\(program) is no pinentry program")
    }
  }

  /// For what a program may not know.
  borrowing func tryCommand(_ command: String) {
    guard send(command) else { return }
    while let answer = try? line(), !starts(answer, with: "OK"), !starts(answer, with: "ERR") {}
  }

  /// Has the program ask.
  borrowing func pin() throws(Failure) -> SecretBytes {
    var secret: [UInt8] = []
    secret.reserveCapacity(Terminal.longestPassphrase)
    defer { secret.wipe() }
    guard send("GETPIN") else { throw ended }
    while true {
      var answer = try line()
      defer { answer.wipe() }
      if starts(answer, with: "OK") { return SecretBytes(copying: secret) }
      if starts(answer, with: "ERR") { throw refusal(answer) }
      guard starts(answer, with: "D ") else { continue }
      try decode(answer.dropFirst(2), into: &secret)
    }
  }

  private borrowing func decode(
    _ data: ArraySlice<UInt8>, into secret: inout [UInt8]
  ) throws(Failure) {
    var rest = data
    while let byte = rest.popFirst() {
      guard secret.count < Terminal.longestPassphrase else {
        throw Failure(
          .noPassphrase, "the passphrase is longer than \(Terminal.longestPassphrase) bytes")
      }
      let digits = rest.prefix(2).compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
      guard byte == UInt8(ascii: "%"), digits.count == 2 else {
        secret.append(byte)
        continue
      }
      secret.append(UInt8(digits[0] * 16 + digits[1]))
      rest = rest.dropFirst(2)
    }
  }

  private borrowing func refusal(_ answer: [UInt8]) -> Failure {
    let words = String(decoding: answer, as: UTF8.self).split(separator: " ", maxSplits: 2)
    // libgpg-error: the low half is the code, 99 and 198 are the user's own no.
    let code = words.count > 1 ? (UInt32(words[1]) ?? 0) & 0xffff : 0
    guard code != 99, code != 198 else {
      return Failure(.noPassphrase, "no passphrase was given, so nothing was done")
    }
    let text = words.count > 2 ? StatusText.safe(String(words[2])) : "no reason given"
    return Failure(.noPassphrase, "\(program) could not ask for the passphrase: \(text)")
  }

  private var ended: Failure {
    Failure(.noPassphrase, "\(program) ended before it gave a passphrase")
  }

  private func starts(_ line: [UInt8], with word: String) -> Bool {
    line.starts(with: Array(word.utf8))
  }

  /// send(2): a program that is gone must not end this one with SIGPIPE.
  private borrowing func send(_ command: String) -> Bool {
    let line = Array("\(command)\n".utf8)
    return Glibc.send(socket, line, line.count, Int32(MSG_NOSIGNAL)) == line.count
  }

  private borrowing func line() throws(Failure) -> [UInt8] {
    var line: [UInt8] = []
    line.reserveCapacity(Self.longestLine)
    while line.count < Self.longestLine {
      var byte: UInt8 = 0
      let got = read(socket, &byte, 1)
      if got < 0 && errno == EINTR { continue }
      guard got == 1 else { break }
      if byte == UInt8(ascii: "\n") { return line }
      line.append(byte)
    }
    line.wipe()
    throw ended
  }
}
