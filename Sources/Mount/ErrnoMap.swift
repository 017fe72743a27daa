import Container
import Glibc
import Primitives
import SystemPackage
import Vault

/// What goes wrong in this layer itself, in the words of the file system.
enum MountFailure: Error, Equatable {
  /// No such name.
  case notFound
  /// The kernel names an object that is not there any more.
  case stale
  case exists
  case notADirectory
  case isADirectory
  case notEmpty
  case nameTooLong
  case invalid
  case notSupported
  case readOnly
  /// The file would be stored in another mode there.
  case crossPolicy
  /// No such extended attribute.
  case noAttribute
  /// The caller's buffer is too small.
  case tooSmall
  /// A value over the limit of its kind.
  case tooLarge
  /// No data behind this offset.
  case noData
  case outOfMemory
  /// A handle the kernel was never given.
  case badHandle
}

/// The one place where an error becomes the number a program sees.
///
/// Whatever concerns integrity is EIO: a caller must not be able to tell why a forged block was
/// rejected, and no other number is treated as "do not trust this data" by programs.
enum ErrnoMap {
  /// The errno of any error that a file system operation ends with.
  static func errno(_ error: any Error) -> Int32 {
    switch error {
    case let error as MountFailure: errno(error)
    case let error as Errno: errno(error)
    case let error as VaultError: errno(error)
    case let error as ContainerError: errno(error)
    // Nothing else is thrown below this layer; if it were, the data could not be trusted.
    case _: EIO
    }
  }

  /// Whether the error says that stored bytes are not what was written.
  static func isIntegrityFailure(_ error: any Error) -> Bool {
    switch error {
    case let error as VaultError: isIntegrityFailure(error)
    case let error as ContainerError: isIntegrityFailure(error)
    case _: false
    }
  }

  static func errno(_ failure: MountFailure) -> Int32 {
    switch failure {
    case .notFound: ENOENT
    case .stale: ESTALE
    case .exists: EEXIST
    case .notADirectory: ENOTDIR
    case .isADirectory: EISDIR
    case .notEmpty: ENOTEMPTY
    case .nameTooLong: ENAMETOOLONG
    case .invalid: EINVAL
    case .notSupported: EOPNOTSUPP
    case .readOnly: EROFS
    case .crossPolicy: EXDEV
    case .noAttribute: ENODATA
    case .tooSmall: ERANGE
    case .tooLarge: E2BIG
    case .noData: ENXIO
    case .outOfMemory: ENOMEM
    case .badHandle: EBADF
    }
  }

  /// A system error goes through as it is, but never as 0, which would mean success, nor as ENOSYS,
  /// by which the kernel would never send that request again.
  static func errno(_ error: Errno) -> Int32 {
    switch error.rawValue {
    case ENOSYS: EOPNOTSUPP
    case 1..<512: error.rawValue
    default: EIO
    }
  }
}

extension ErrnoMap {
  static func errno(_ error: VaultError) -> Int32 {
    switch error {
    case .system(let error, _): errno(error)
    case .container(let error): errno(error)
    case .damaged, .refused: EIO
    case .crossPolicy: EXDEV
    case .readOnly: EROFS
    // A mounted vault is open: these cannot come, and would mean that it is not what it was.
    case .wrongSecret, .notAVault, .unsupportedVersion, .locked, .rekeying: EIO
    }
  }

  static func errno(_ error: ContainerError) -> Int32 {
    switch error {
    case .io(let error): errno(error)
    case .damaged, .keyMissing: EIO
    case .tooLarge: EFBIG
    case .crypto(let error): errno(error)
    }
  }

  static func errno(_ error: CryptoError) -> Int32 {
    switch error {
    case .authenticationFailed, .unavailable, .invalidParameters: EIO
    case .outOfMemory: ENOMEM
    }
  }

  /// An error in words, for a log line.
  static func reason(_ error: any Error) -> String {
    switch error {
    case VaultError.damaged(let reason), VaultError.refused(let reason): reason
    case VaultError.system(let error, let attempt): "\(attempt): \(error)"
    case VaultError.container(let error): reason(error)
    case ContainerError.damaged(let damage): damage.description
    case ContainerError.io(let error): error.description
    case _: "\(error)"
    }
  }

  static func isIntegrityFailure(_ error: VaultError) -> Bool {
    switch error {
    case .damaged, .refused, .wrongSecret, .notAVault, .unsupportedVersion: true
    case .container(let error): isIntegrityFailure(error)
    case .system, .crossPolicy, .readOnly, .locked, .rekeying: false
    }
  }

  static func isIntegrityFailure(_ error: ContainerError) -> Bool {
    switch error {
    case .damaged, .keyMissing, .crypto: true
    case .io, .tooLarge: false
    }
  }
}
