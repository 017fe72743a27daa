import Glibc
import Testing

/// Kernel passthrough of plain files, and what a mount says where it cannot be had.
@Suite(.serialized) struct TransportPassthroughTests {
  static let content = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 13 &+ $0 >> 8) }
  static let hasPassthrough: Bool = {
    guard FuseDevice.isUsable, let server = try? ServerProcess(["io_uring=off"]) else {
      return false
    }
    let active = server.ready.contains("passthrough=active")
    if !active { print("skipped: \(server.ready)") }
    return active
  }()

  @Test(.enabled(if: hasPassthrough), arguments: TransportTests.Kind.here)
  func kernelReadsAndWritesPlainFilesItself(_ kind: TransportTests.Kind) throws {
    let server = try ServerProcess([kind.rawValue], files: ["plain": Self.content])
    let file = try Client.open("\(server.mountPoint)/plain", O_RDWR)
    #expect(try Client.read(file, 400_000, at: 0) == Self.content)
    try Client.write(file, [1, 2, 3], at: 1000)
    #expect(try Client.read(file, 3, at: 1000) == [1, 2, 3])
    let map = mmap(nil, 4096, PROT_READ, MAP_SHARED, file, 0)
    #expect(map != MAP_FAILED)
    if let map, map != MAP_FAILED {
      #expect(map.load(fromByteOffset: 1002, as: UInt8.self) == 3)
      munmap(map, 4096)
    }
    #expect(try server.statistic("reads") == 0)
    #expect(try server.statistic("writes") == 0)
    #expect(try server.statistic("ids") == 1)
    close(file)
    #expect(try Array(Client.readAll("\(server.backing)/plain")[1000..<1003]) == [1, 2, 3])
    #expect(try server.waitFor("ids", toBe: 0))
  }

  @Test(.enabled(if: hasPassthrough))
  func adviceThatReadsThroughTheServerGetsItsBytes() throws {
    let server = try ServerProcess([], files: ["plain": Self.content])
    let file = try Client.open("\(server.mountPoint)/plain")
    defer { close(file) }
    #expect(posix_fadvise(file, 0, 0, POSIX_FADV_WILLNEED) == 0)
    #expect(try Client.read(file, 400_000, at: 0) == Self.content)
  }

  @Test(.enabled(if: hasPassthrough))
  func concurrentOpensOfOneInodeShareOneID() throws {
    let server = try ServerProcess([], files: ["a": Self.content, "b": [9]])
    let files = try (0..<10).map { _ in try Client.open("\(server.mountPoint)/a", O_RDWR) }
    #expect(try server.statistic("ids") == 1)
    let other = try Client.open("\(server.mountPoint)/b")
    #expect(try server.statistic("ids") == 2)
    for file in files {
      #expect(try Client.read(file, 10, at: 0) == Array(Self.content[..<10]))
      close(file)
    }
    close(other)
    #expect(try server.waitFor("ids", toBe: 0))
  }

  @Test(.enabled(if: hasPassthrough), arguments: TransportTests.Kind.here)
  func racingOpensAndClosesNeverFail(_ kind: TransportTests.Kind) throws {
    let server = try ServerProcess([kind.rawValue], files: ["plain": Self.content])
    let path = "\(server.mountPoint)/plain"
    let failures = onThreads(4) { index in
      for round in 0..<200 {
        let file = try Client.open(path, round % 3 == 0 ? O_RDWR : O_RDONLY)
        defer { close(file) }
        let offset = (index * 200 + round) * 100
        guard try Client.read(file, 16, at: offset) == Array(Self.content[offset..<offset + 16])
        else { throw TransportTestError(description: "wrong bytes at \(offset)") }
      }
    }
    #expect(failures == [])
    #expect(try server.statistic("reads") == 0)
    #expect(try server.waitFor("ids", toBe: 0))
  }

  @Test(.enabled(if: hasPassthrough))
  func writesOfUsersStripSetUIDWherePassthroughWrites() throws {
    let server = try ServerProcess([], files: ["plain": Self.content, "written-by": []])
    chmod("\(server.backing)/plain", 0o6777)
    let command =
      "exec setpriv --reuid 65534 --regid 65534 --clear-groups "
      + "sh -c 'printf x 1<>\(server.mountPoint)/plain; printf y 1<>\(server.mountPoint)/written'"
    #expect(system(command) == 0)
    var status = stat()
    #expect(stat("\(server.backing)/plain", &status) == 0)
    #expect(status.st_mode & 0o6000 == 0)
    // The write that came to the server was marked.
    #expect(try server.statistic("kills") == 1)
    #expect(try server.statistic("writes") == 1)
  }

  @Test(.enabled(if: FuseDevice.isUsable), arguments: TransportTests.Kind.here)
  func withoutPassthroughTheServerDoesTheWorkAndSaysWhy(_ kind: TransportTests.Kind) throws {
    for (setting, reason) in [
      ("passthrough=off", "switched off by option"), ("drop=sys_admin", "CAP_SYS_ADMIN"),
    ] {
      let server = try ServerProcess([kind.rawValue, setting], files: ["plain": Self.content])
      let passthrough = server.ready.split(separator: "|").map(String.init).dropFirst().first ?? ""
      #expect(passthrough.contains("unavailable") && passthrough.contains(reason))
      #expect(try Client.readAll("\(server.mountPoint)/plain") == Self.content)
      #expect(try server.statistic("reads") > 0)
      #expect(try server.statistic("ids") == 0)
    }
  }

  @Test(.enabled(if: FuseDevice.isUsable))
  func ringsThatCannotBeMadeFallBackWithTheReason() throws {
    let off = try ServerProcess(["io_uring=off"])
    #expect(off.ready.contains("io_uring=unavailable: switched off by option"))
    guard FuseDevice.offersRings else { return }
    // Standard streams, device, read-ahead, pipe ends and probe fit; the rings' descriptors do not.
    let starved = try ServerProcess(["io_uring=on", "nofile=7"])
    #expect(starved.ready.contains("transport=/dev/fuse"))
    #expect(starved.ready.contains("io_uring=unavailable: io_uring could not be set up"))
    #expect(try Client.readAll("\(starved.mountPoint)/memory").count == 3 << 20)
    #expect(starved.unmount())
    #expect(try starved.end().status == 0)
  }
}
