public import Container
public import SystemPackage

/// Why an operation on a vault failed.
public enum VaultError: Error, Sendable {
  /// A system call failed, or an operation ends with the error the same call on an ordinary
  /// filesystem would give; the text says what was attempted.
  case system(Errno, String)
  /// Stored bytes do not authenticate, or do not belong where they are. Replied as EIO.
  case damaged(String)
  /// An entry its directory's policy does not allow, such as a planted plaintext file. Replied as
  /// EIO.
  case refused(String)
  /// A container reported an error.
  case container(ContainerError)
  /// The target directory would store the file in another mode. Replied as EXDEV.
  case crossPolicy
  /// No key slot opens with this secret.
  case wrongSecret
  /// There is no vault; the text says why.
  case notAVault(String)
  /// The vault has a later format version than this program reads.
  case unsupportedVersion(UInt16)
  /// Another writer holds the vault: its process ID and host, as far as known.
  case locked(holder: String)
  /// The vault's master key is being replaced, and it is in two parts: `Rekeying` goes on.
  case rekeying
  /// The vault was opened for reading only. Replied as EROFS.
  case readOnly

  /// The system error number inside, if there is one.
  public var errno: Errno? {
    switch self {
    case .system(let errno, _): errno
    case .container(.io(let errno)): errno
    case .container, .damaged, .refused, .crossPolicy, .wrongSecret, .notAVault,
      .unsupportedVersion, .locked, .rekeying, .readOnly:
      nil
    }
  }
}

/// Runs a call that throws an error number and names the attempt.
@inline(__always)
func attempt<R: ~Copyable>(
  _ what: @autoclosure () -> String, _ body: () throws(Errno) -> R
) throws(VaultError) -> R {
  do {
    return try body()
  } catch {
    throw .system(error, what())
  }
}

/// Runs a container's call.
@inline(__always)
func attempt<R: ~Copyable>(_ body: () throws(ContainerError) -> R) throws(VaultError) -> R {
  do {
    return try body()
  } catch {
    throw .container(error)
  }
}
