import ArgumentParser

/// Why a command ended; `docs/cli.md` has the same table. Values are fixed: scripts rely on them.
enum Exit: Int32 {
  case success = 0
  /// The system refused something: permissions, a full disk, an I/O error.
  case system = 1
  case wrongSecret = 10
  case notAVault = 11
  case locked = 12
  case damaged = 13
  case mountFailed = 14
  case mountPointUnusable = 15
  case notMounted = 16
  case busy = 17
  case notFound = 18
  case notEmpty = 19
  case unsupportedFormat = 20
  case noPassphrase = 21
  /// `check` found nothing worse than harmless, or repaired all of it.
  case checked = 22
  /// `migrate` or `export` left something out or could not keep all that belongs to it.
  case incomplete = 23
  /// The vault is in two parts, since a change of its master key was cut short.
  case rekeying = 24
  /// As in sysexits.h, and what ArgumentParser uses.
  case usage = 64

  var code: ExitCode { ExitCode(rawValue) }
}

/// The end of a command that did not work out: one sentence for the user, and the exit code.
struct Failure: Error {
  let exit: Exit
  let message: String

  init(_ exit: Exit, _ message: String) {
    self.exit = exit
    self.message = message
  }
}
