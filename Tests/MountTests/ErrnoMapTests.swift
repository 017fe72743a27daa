import Container
import Glibc
import Primitives
import SystemPackage
import Testing
import Vault

@testable import Mount

@Suite struct ErrnoMapTests {
  @Test func integrityFailuresAreEIOAndNothingElse() {
    #expect(ErrnoMap.errno(VaultError.damaged("x")) == EIO)
    #expect(ErrnoMap.errno(VaultError.refused("x")) == EIO)
    #expect(ErrnoMap.errno(VaultError.container(.keyMissing)) == EIO)
    #expect(ErrnoMap.errno(ContainerError.crypto(.authenticationFailed)) == EIO)
  }

  @Test func systemErrorsGoThroughAllLayers() {
    #expect(ErrnoMap.errno(VaultError.container(.io(.noSpace))) == ENOSPC)
    #expect(ErrnoMap.errno(VaultError.system(.directoryNotEmpty, "x")) == ENOTEMPTY)
    #expect(ErrnoMap.errno(Errno.tooManyOpenFiles) == EMFILE)
  }

  @Test func crossingPoliciesIsEXDEV() {
    #expect(ErrnoMap.errno(VaultError.crossPolicy) == EXDEV)
  }

  @Test func neverAnswersSuccessOrAnUnknownRequest() {
    #expect(ErrnoMap.errno(Errno(rawValue: 0)) == EIO)
    #expect(ErrnoMap.errno(Errno(rawValue: -1)) == EIO)
    #expect(ErrnoMap.errno(Errno(rawValue: 5000)) == EIO)
    #expect(ErrnoMap.errno(Errno(rawValue: ENOSYS)) == EOPNOTSUPP)
  }

  @Test func fullDiskIsNoIntegrityFailure() {
    #expect(!ErrnoMap.isIntegrityFailure(VaultError.container(.io(.noSpace))))
    #expect(ErrnoMap.isIntegrityFailure(VaultError.refused("x")))
  }
}
