import ArgumentParser
import Glibc

/// What is wrong with a command line, in the form of all other errors: one sentence, then the usage.
enum UsageError {
  /// What the parser answers by itself, which it does not think of when it guesses.
  private static let builtIn = ["--help", "--version"]

  /// The text of the parser's errors; nil for what is none, `--help` for one.
  static func text(for error: any Error) -> String? {
    guard Scrim.exitCode(for: error) == ExitCode.validationFailure, !(error is ExitCode) else {
      return nil
    }
    let prefix = "Error: "
    let whole = Scrim.fullMessage(for: error)
    guard whole.hasPrefix(prefix) else { return whole }
    var lines = whole.dropFirst(prefix.count).split(separator: "\n").map(String.init)
    guard let first = lines.first else { return whole }
    // The parser's sentences begin with a capital letter, ours go on after a colon.
    let isName = first.prefix { $0.isLetter }.dropFirst().contains(where: \.isUppercase)
    lines[0] = "scrim: " + (isName ? first : first.prefix(1).lowercased() + first.dropFirst())
    if let near = guess(first) { lines[0] += ". Did you mean '\(near)'?" }
    let width = Screen.size(STDERR_FILENO)?.columns
    return lines.map { line in
      line.wrapped(to: width, indent: 2 + line.prefix { $0 == " " }.count)
    }.joined(separator: "\n")
  }

  private static func guess(_ message: String) -> String? {
    let parts = message.split(separator: "'")
    guard message.hasPrefix("Unknown option"), parts.count == 2, parts[1].count > 3 else {
      return nil
    }
    return Guess.word(near: String(parts[1]), among: builtIn)
  }
}
