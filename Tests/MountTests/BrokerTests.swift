import BrokerProtocol
import CLinux
import Glibc
import SystemPackage
import Testing

/// What the broker takes and refuses, asked in its own protocol. A /dev/fuse that nothing is mounted through passes its
/// checks, and the kernel then answers EPERM, which tells "accepted" from each refusal.
@Suite(.enabled(if: FuseDevice.isUsable))
struct BrokerTests {
  private static let accepted = BrokerMessage(Errno.notPermitted)

  @Test func writableFilesOfTheVaultReachTheKernel() throws {
    let ground = try BrokerGround()
    let broker = try ground.greetedBroker()
    let device = try ground.open("/dev/fuse", O_RDWR)
    for path in ["vault/tree/file", "vault/scrim.vault"] {
      let file = try ground.open(path, O_RDWR)
      #expect(broker.ask(BrokerMessage(.register), [device, file]) == Self.accepted)
    }
    // Without a name, but made in the vault.
    let nameless = try ground.keep(
      scrim_openat(AT_FDCWD, ground.vault, scrim_O_TMPFILE | O_RDWR | O_CLOEXEC, 0o600))
    #expect(broker.ask(BrokerMessage(.register), [device, nameless]) == Self.accepted)
  }

  @Test func filesTheirSenderMightNotWriteAreRefused() throws {
    let ground = try BrokerGround()
    let broker = try ground.greetedBroker()
    let device = try ground.open("/dev/fuse", O_RDWR)
    // An append-only file may be open for both, and would be written anywhere through the mount.
    for flags in [O_RDONLY, O_WRONLY, scrim_O_PATH, O_RDWR | O_APPEND, O_RDONLY | O_APPEND] {
      let file = try ground.open("vault/tree/file", flags)
      #expect(broker.answer(.register, [device, file]) == .notReadWrite, "flags \(flags)")
    }
  }

  @Test func whatIsNoRegularFileIsRefused() throws {
    let ground = try BrokerGround()
    let broker = try ground.greetedBroker()
    let device = try ground.open("/dev/fuse", O_RDWR)
    mkfifo("\(ground.vault)/pipe", 0o600)
    symlink("tree/file", "\(ground.vault)/link")
    let others = [
      try ground.open("vault/tree", O_RDONLY | O_DIRECTORY), try ground.open("vault/pipe", O_RDWR),
      try ground.open("vault/link", scrim_O_PATH | O_NOFOLLOW),
      try ground.open("/dev/null", O_RDWR),
      device,
    ]
    for other in others { #expect(broker.answer(.register, [device, other]) == .notRegular) }
  }

  @Test func filesOutsideTheVaultAreRefused() throws {
    let ground = try BrokerGround()
    let broker = try ground.greetedBroker()
    let device = try ground.open("/dev/fuse", O_RDWR)
    let moved = try ground.open("vault/tree/file", O_RDWR)
    #expect(broker.ask(BrokerMessage(.register), [device, moved]) == Self.accepted)
    rename("\(ground.vault)/tree/file", "\(ground.base)/other/moved")
    // The folder whose name only begins alike, another folder and another filesystem, and one that left.
    let others = [
      try ground.open("vault2/file", O_RDWR), try ground.open("other/file", O_RDWR),
      try ground.open("/proc/self/oom_score_adj", O_RDWR), moved,
    ]
    for other in others { #expect(broker.answer(.register, [device, other]) == .outsideVault) }
    // The vault itself may move: its files are still beneath it.
    rename(ground.vault, "\(ground.base)/renamed")
    let file = try ground.open("renamed/scrim.vault", O_RDWR)
    #expect(broker.ask(BrokerMessage(.register), [device, file]) == Self.accepted)
  }

  @Test func onlyFuseDevicesAreCalled() throws {
    let ground = try BrokerGround()
    let broker = try ground.greetedBroker()
    let file = try ground.open("vault/tree/file", O_RDWR)
    for other in [try ground.open("/dev/null", O_RDWR), try ground.open("other/file", O_RDWR)] {
      #expect(broker.answer(.register, [other, file]) == .notFuse)
      #expect(broker.answer(.unregister, [other], value: 1) == .notFuse)
    }
  }

  @Test func foldersThatAreNoVaultAreRefused() throws {
    let ground = try BrokerGround()
    let pairs: [(String, String)] = [
      ("other", "other/scrim.vault"), ("vault", "vault2/scrim.vault"), ("vault", "vault/tree/file"),
      ("/proc/self", "vault/scrim.vault"), ("vault/scrim.vault", "vault/scrim.vault"),
    ]
    for (folder, header) in pairs {
      let broker = try BrokerProcess()
      let answer = broker.answer(
        .greet, [try ground.open(folder, O_RDONLY), try ground.open(header, O_RDONLY)])
      #expect(answer == .notAVault, "\(folder) \(header)")
      let file = try ground.open("vault/tree/file", O_RDWR)
      let device = try ground.open("/dev/fuse", O_RDWR)
      #expect(broker.answer(.register, [device, file]) == .malformed)
    }
  }

  @Test func aSecondGreetingAndStrangeRequestsChangeNothing() throws {
    let ground = try BrokerGround()
    let broker = try ground.greetedBroker()
    let header = try ground.open("vault2/scrim.vault", O_RDWR)
    let folder = try ground.open("vault2", O_RDONLY)
    #expect(broker.answer(.greet, [folder, header]) == .malformed)
    let device = try ground.open("/dev/fuse", O_RDWR)
    #expect(broker.answer(.register, [device, header]) == .outsideVault)
    #expect(broker.answer(.register, [device]) == .malformed)
    #expect(broker.answer(.unregister, [], value: 1) == .malformed)
    #expect(broker.ask(BrokerMessage(kind: 77), [device]) == BrokerMessage(.malformed))
    #expect(broker.endsAfter(Array(repeating: 1, count: 9)))
    let other = try ground.greetedBroker()
    #expect(other.endsAfter([1, 0, 0]))
  }

  @Test func itHoldsOneCapabilityAndNotRootsIdentity() throws {
    let ground = try BrokerGround()
    let broker = try ground.greetedBroker()
    #expect(broker.processStatus("Uid") == "65534 65534 65534 65534")
    #expect(broker.processStatus("Gid") == "65534 65534 65534 65534")
    #expect(broker.processStatus("Groups") == "")
    for set in ["CapPrm", "CapEff"] { #expect(broker.processStatus(set) == "0000000000200000") }
    for set in ["CapInh", "CapAmb"] { #expect(broker.processStatus(set) == "0000000000000000") }
    #expect(broker.processStatus("NoNewPrivs") == "1")
  }

  @Test func itEndsWithItsChannel() throws {
    let ground = try BrokerGround()
    #expect(try ground.greetedBroker().closeAndWait() == 0)
    #expect(try BrokerProcess().closeAndWait() == 0)
  }
}
