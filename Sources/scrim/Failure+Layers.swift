import Container
import Mount
import SystemPackage
import Vault

extension Failure {
  /// What an error of any layer means to the user; nil for errors of the argument parser.
  init?(describing error: any Error) {
    switch error {
    case let failure as Failure: self = failure
    case let error as VaultError: self.init(error)
    case let error as MountError: self.init(error)
    case let error as ContainerError: self.init(VaultError.container(error))
    case let error as Errno: self.init(.system, "\(error)")
    default: return nil
    }
  }

  private init(_ error: MountError) {
    switch error {
    case .mountPointMissing, .notADirectory, .notEmpty, .notWritable, .alreadyMounted,
      .staleMount:
      self.init(.mountPointUnusable, error.description)
    case .unknownOption: self.init(.usage, error.description)
    case .noFuseDevice, .fuseDeviceRefused, .noFusermount, .allowOtherForbidden, .refused,
      .handshakeFailed, .io:
      self.init(.mountFailed, error.description)
    }
  }

  init(_ error: VaultError) {
    switch error {
    case .wrongSecret:
      self.init(
        .wrongSecret,
        "the passphrase or key does not open this vault; 'scrim key list' shows which keys it has")
    case .notAVault(let reason): self.init(.notAVault, "not a vault: \(reason)")
    case .locked(let holder):
      self.init(.locked, "the vault is already locked by \(holder)")
    case .damaged(let what): self.init(.damaged, "damaged: \(what)")
    case .refused(let what): self.init(.damaged, "refused: \(what)")
    case .container(.io(let errno)): self.init(.system, "\(errno)")
    case .container(let error): self.init(.damaged, "damaged: \(error)")
    case .unsupportedVersion(let version):
      self.init(
        .unsupportedFormat,
        "the vault has format \(version), which this version of scrim cannot read")
    case .rekeying:
      self.init(
        .rekeying,
        "the vault's master key is being replaced: 'scrim convert --rekey VAULT' goes on with it, and until then "
          + "'scrim export' reads all of it")
    case .crossPolicy: self.init(.system, "the two directories store files in different modes")
    case .readOnly: self.init(.system, "the vault is open for reading only")
    case .system(.noSuchFileOrDirectory, let what), .system(.notDirectory, let what):
      self.init(.notFound, "\(what): no such file or directory")
    case .system(.directoryNotEmpty, let what): self.init(.notEmpty, what)
    case .system(let errno, let what): self.init(.system, "\(what): \(errno)")
    }
  }
}
