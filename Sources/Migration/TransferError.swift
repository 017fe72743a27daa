import Container
public import SystemPackage
public import Vault

/// Why one file could not be carried over.
public enum TransferError: Error, Sendable {
  /// A call outside the vault failed; the text says what was attempted.
  case outside(Errno, String)
  /// The vault gave an error.
  case vault(VaultError)
  /// The file was changed while it was read.
  case changed
  /// Something else has the name already.
  case occupied(String)
  /// What was written is not what was read back.
  case different
  /// Somebody writes to the file, or did meanwhile.
  case busy(String)
  /// It was asked to stop in the middle of a file.
  case stopped

  /// One line for the user.
  public var text: String {
    switch self {
    case .outside(let errno, let what): "\(what): \(errno)"
    case .vault(.system(let errno, let what)): "\(what): \(errno)"
    case .vault(.damaged(let what)): "damaged: \(what)"
    case .vault(.refused(let what)): "refused: \(what)"
    case .vault(.container(.io(let errno))): "\(errno)"
    case .vault(.container(.damaged(let damage))): "damaged: \(damage)"
    case .vault(let error): "\(error)"
    case .changed: "it kept changing while it was read"
    case .occupied(let what): what
    case .different: "what was read back is not what was written"
    case .busy(let what): what
    case .stopped: "interrupted"
    }
  }

  /// Whether stored bytes of the vault do not authenticate.
  public var isDamage: Bool {
    switch self {
    case .vault(.damaged), .vault(.refused): true
    case .vault(.container(.io)), .vault(.container(.crypto)): false
    case .vault(.container): true
    default: false
    }
  }

  /// Whether nothing that follows can succeed either.
  public var endsEverything: Bool {
    let errno =
      switch self {
      case .outside(let errno, _): errno
      case .vault(let error): error.errno
      default: Errno?.none
      }
    return errno == .noSpace || errno == .diskQuotaExceeded || errno == .readOnlyFileSystem
      || errno == .tooManyOpenFiles
  }

  /// Whether more could be done if there were more space.
  var isForSpace: Bool {
    switch self {
    case .outside(.noSpace, _), .outside(.diskQuotaExceeded, _): true
    case .vault(let error): error.errno == .noSpace || error.errno == .diskQuotaExceeded
    default: false
    }
  }

  var problem: MigrationProblem {
    if case .busy(let text) = self { return .busy(text) }
    return isDamage ? .damaged(text) : .failed(text)
  }
}

/// Runs a call outside the vault and names the attempt.
func attempting<R: ~Copyable>(
  _ what: @autoclosure () -> String, _ body: () throws(Errno) -> R
) throws(TransferError) -> R {
  do {
    return try body()
  } catch {
    throw .outside(error, what())
  }
}

/// Runs a call of the vault.
func inVault<R: ~Copyable>(_ body: () throws(VaultError) -> R) throws(TransferError) -> R {
  do {
    return try body()
  } catch {
    throw .vault(error)
  }
}
