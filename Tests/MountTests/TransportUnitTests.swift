import Glibc
import Logging
import SystemPackage
import Testing

@testable import Mount

/// Parts of the transport that need no kernel.
@Suite struct TransportUnitTests {
  static func request(minor: UInt32, flags: UInt64) throws -> InitOffer {
    var bytes = [UInt8](repeating: 0, count: 40 + 64)
    return try bytes.withUnsafeMutableBytes { bytes in
      bytes.storeBytes(of: 104, toByteOffset: 0, as: UInt32.self)
      bytes.storeBytes(of: 26, toByteOffset: 4, as: UInt32.self)
      bytes.storeBytes(of: 7, toByteOffset: 40, as: UInt32.self)
      bytes.storeBytes(of: minor, toByteOffset: 44, as: UInt32.self)
      bytes.storeBytes(
        of: UInt32(truncatingIfNeeded: flags), toByteOffset: 52, as: UInt32.self)
      bytes.storeBytes(of: UInt32(flags >> 32), toByteOffset: 56, as: UInt32.self)
      return try #require(InitOffer(request: UnsafeRawBufferPointer(bytes)))
    }
  }

  /// The words of a rewritten reply of libfuse 3.14.
  static func reply(
    _ offer: InitOffer, _ wishes: InitWishes
  ) -> (flags: UInt64?, minor: UInt32, low: UInt32, high: UInt32, depth: UInt32) {
    var bytes = [UInt8](repeating: 0, count: 64)
    return bytes.withUnsafeMutableBytes { bytes in
      bytes.storeBytes(of: 7, toByteOffset: 0, as: UInt32.self)
      bytes.storeBytes(of: 31, toByteOffset: 4, as: UInt32.self)
      bytes.storeBytes(of: 0x4040_f029, toByteOffset: 12, as: UInt32.self)
      let flags = InitReply.rewrite(bytes, offer: offer, wishes: wishes)
      func word(_ offset: Int) -> UInt32 { bytes.load(fromByteOffset: offset, as: UInt32.self) }
      return (flags, word(4), word(12), word(32), word(36))
    }
  }

  @Test func initReplyAsksForWhatANewKernelOffers() throws {
    var wishes = InitWishes()
    wishes.overIOURing = true
    let reply = Self.reply(try Self.request(minor: 45, flags: (1 << 42) - 1), wishes)
    #expect(reply.minor == 42)
    #expect(reply.high & (1 << 5) != 0 && reply.high & (1 << 9) != 0 && reply.high & (1 << 4) != 0)
    #expect(reply.depth == 1)
    #expect(reply.low & UInt32(Wire.Capability.parallelDirectoryOperations) != 0)
    #expect(reply.low & UInt32(Wire.Capability.killPrivilegesV2) != 0)
    #expect(reply.low & UInt32(Wire.Capability.autoInvalidateData) == 0)
    #expect(reply.low & UInt32(Wire.Capability.writebackCache) == 0)
    #expect(reply.low & UInt32(Wire.Capability.readDirPlus) != 0)
    #expect(reply.flags == UInt64(reply.high) << 32 | UInt64(reply.low))
  }

  @Test(arguments: [true, false]) func initReplyAsksForTheWriteBackCacheOrPassthrough(
    passthrough: Bool
  ) throws {
    var wishes = InitWishes()
    wishes.passthrough = passthrough
    wishes.writeback = true
    let reply = Self.reply(try Self.request(minor: 45, flags: (1 << 42) - 1), wishes)
    #expect(((reply.flags ?? 0) & Wire.Capability.passthrough != 0) == passthrough)
    #expect(((reply.flags ?? 0) & Wire.Capability.writebackCache == 0) == passthrough)
  }

  @Test func initReplyAsksForNothingAnOldKernelDidNotOffer() throws {
    let offered: UInt64 = 0x1fff_ffff & ~Wire.Capability.killPrivilegesV2
    let reply = Self.reply(try Self.request(minor: 31, flags: offered), InitWishes())
    #expect(reply.minor == 31)
    #expect(reply.high == 0)
    #expect(reply.depth == 0)
    #expect(reply.low & UInt32(Wire.Capability.killPrivilegesV2) == 0)
  }

  @Test func truncatedInitRequestIsNoOffer() {
    let bytes = [UInt8](repeating: 26, count: 50)
    #expect(bytes.withUnsafeBytes { InitOffer(request: $0) } == nil)
  }

  @Test func possibleProcessorsWithGapsAreNotTrusted() {
    #expect(RingSupport.processors("0") == 1)
    #expect(RingSupport.processors("0-7") == 8)
    #expect(RingSupport.processors("0-1,4-5") == nil)
    #expect(RingSupport.processors("1-3") == nil)
    #expect(RingSupport.processors("") == nil)
  }

  @Test func mountTableLineIsUnescaped() {
    let line: Substring = "36 35 0:57 / /mnt/a\\040b\\134c rw,nosuid shared:1 - fuse.scrim /v rw"
    #expect(
      MountTable.parse(line)
        == MountTableEntry(device: "0:57", path: "/mnt/a b\\c", type: "fuse.scrim"))
    #expect(MountTable.parse("36 35 0:57 / /mnt") == nil)
  }

  @Test func mountPointIsCheckedBeforeMounting() throws {
    let options = SessionOptions(source: "/vault")
    #expect(throws: MountError.mountPointMissing("/dev/shm/absent/x")) {
      try MountPoint.check("/dev/shm/absent/x", options: options)
    }
    #expect(throws: MountError.notADirectory("/etc/passwd")) {
      try MountPoint.check("/etc/passwd", options: options)
    }
    #expect(throws: MountError.notEmpty("/etc")) {
      try MountPoint.check("/etc", options: options)
    }
  }

  @Test func mountOptionsAreEscapedAndUnknownOnesRefused() throws {
    var options = SessionOptions(source: "/a,b\\c")
    #expect(
      try options.mountArgument().hasPrefix("fsname=/a\\,b\\\\c,subtype=scrim,rw,nosuid,nodev"))
    options.extra = ["frobnicate"]
    #expect(throws: MountError.unknownOption("frobnicate")) { try options.mountArgument() }
  }

  /// Counts, and refuses the second registration.
  final class Registrar: BackingRegistrar, @unchecked Sendable {
    // One thread uses it.
    var registered: [Int32] = []
    var unregistered: [Int32] = []
    var refuses = false
    func register(_ descriptor: Int32) throws(Errno) -> Int32 {
      if refuses { throw .tooManyOpenFilesInSystem }
      registered.append(descriptor)
      return Int32(registered.count)
    }
    func unregister(_ backingID: Int32) { unregistered.append(backingID) }
  }

  @Test func backingIDLivesFromFirstOpenToLastRelease() {
    let registrar = Registrar()
    let registry = BackingRegistry()
    #expect(registry.acquire(inode: 5, descriptor: 9) == nil)
    registry.release(inode: 5)
    registry.activate(registrar)
    #expect(registry.acquire(inode: 5, descriptor: 9) == 1)
    #expect(registry.acquire(inode: 5, descriptor: 10) == 1)
    #expect(registry.acquire(inode: 6, descriptor: 11) == 2)
    registry.release(inode: 5)
    #expect(registrar.unregistered == [])
    registry.release(inode: 5)
    #expect(registrar.unregistered == [1])
    #expect(registry.count == 1)
    registry.release(inode: 5)
    #expect(registrar.unregistered == [1])
  }

  @Test func inodeOpenedWithoutPassthroughStaysSoWhileOpen() {
    let registrar = Registrar()
    let registry = BackingRegistry()
    registry.activate(registrar)
    registrar.refuses = true
    #expect(registry.acquire(inode: 5, descriptor: 9) == nil)
    registrar.refuses = false
    #expect(registry.acquire(inode: 5, descriptor: 9) == nil)
    #expect(registry.isPassthrough(inode: 5) == false)
    registry.release(inode: 5)
    registry.release(inode: 5)
    #expect(registry.acquire(inode: 5, descriptor: 9) == 1)
  }

  @Test func reasonWithoutRingsClaimsNoMoreThanCanBeSeen() {
    #expect(RingSupport.reasonNotOffered(kernelMinor: 40).contains("7.40"))
    let reason = RingSupport.reasonNotOffered(kernelMinor: 45)
    #expect(!reason.isEmpty)
    if access("/sys/module/fuse", F_OK) != 0 { #expect(reason.contains("/sys is not there")) }
  }
}
