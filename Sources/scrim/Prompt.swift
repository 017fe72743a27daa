import Glibc
import Primitives

/// Asks a person for a secret: on the terminal, or with a window or screen of a pinentry program.
struct Prompt {
  /// The pinentry program that was asked for; without one it is the terminal's turn.
  let program: String?

  /// Asks once for `what`, such as `Passphrase for VAULT`, with a line above it if there is something to tell.
  func ask(_ what: String, hint: String? = nil) throws(Failure) -> SecretBytes {
    if let program { return try Pinentry.ask(program, what, hint: hint) }
    guard !Terminal.isThere, Self.hasDisplay else { return try Terminal.ask(what, hint: hint) }
    return try Pinentry.ask("pinentry", what, hint: hint)
  }

  /// Asks for a new passphrase until the same one was given twice.
  func askNew(_ vault: PathArgument) throws(Failure) -> SecretBytes {
    var hint: String?
    for _ in 0..<3 {
      let first = try ask("New passphrase for \(vault.text)", hint: hint)
      let strength = PassphraseStrength(first)
      if try ask("Once more", hint: "strength: \(strength.hint)") == first { return first }
      hint = "the two were not the same; try again"
    }
    throw Failure(.noPassphrase, "no passphrase was confirmed, so nothing was done")
  }

  /// Whether a window can be shown where there is no terminal.
  private static var hasDisplay: Bool {
    getenv("WAYLAND_DISPLAY") != nil || getenv("DISPLAY") != nil
  }
}
