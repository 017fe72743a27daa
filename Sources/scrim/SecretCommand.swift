import Glibc
import Primitives

/// A passphrase that a program prints: a password manager, a keyring, a token.
enum SecretCommand {
  /// Runs the command by /bin/sh. It keeps the terminal and standard error, for questions of its own.
  static func passphrase(_ command: String) throws(Failure) -> SecretBytes {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      throw Failure(.system, "no pipe for the passphrase command: \(Output.errnoText())")
    }
    defer { close(ends[0]) }
    // The command must not hold the reading end, nor anything started meanwhile either of them.
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    let started = spawn(command, output: ends[1])
    close(ends[1])
    guard let process = started else {
      throw Failure(.noPassphrase, "the passphrase command could not be started")
    }
    let outcome = Result { () throws(Failure) in
      try SecretFile.passphrase(
        descriptor: ends[0], of: "what the passphrase command printed")
    }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 && errno == EINTR {}
    // Its own failure explains an output that is empty or cut short.
    guard status == 0 else {
      let how =
        status & 0x7f == 0 ? "status \((status >> 8) & 0xff)" : "signal \(status & 0x7f)"
      throw Failure(.noPassphrase, "the passphrase command ended with \(how)")
    }
    return try outcome.get()
  }

  private static func spawn(_ command: String, output: Int32) -> pid_t? {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
    var arguments: [UnsafeMutablePointer<CChar>?] = ["sh", "-c", command].map { (word: String) in
      strdup(word)
    }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var process: pid_t = 0
    let code = posix_spawn(&process, "/bin/sh", &actions, nil, arguments, environ)
    return code == 0 ? process : nil
  }
}
