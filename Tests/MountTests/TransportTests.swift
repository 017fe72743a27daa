import CLinux
import Glibc
import Testing

@testable import Mount

/// The transport as another process sees it: a small server, the real kernel.
@Suite(.serialized) struct TransportTests {
  enum Kind: String, CaseIterable, CustomTestStringConvertible {
    case device = "io_uring=off"
    case rings = "io_uring=auto"
    var testDescription: String { self == .device ? "device" : "rings" }
    static var here: [Kind] { FuseDevice.offersRings ? allCases : [.device] }
  }

  static func pattern(_ offset: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: offset &* 31 &+ offset >> 12)
  }

  @Test func fuseDeviceIsThereOnContinuousIntegration() {
    guard let problem = FuseDevice.problem else { return }
    print("transport tests are disabled: \(problem)")
    if getenv("CI") != nil { Issue.record("transport tests cannot run: \(problem)") }
  }

  @Test(.enabled(if: FuseDevice.isUsable), arguments: Kind.here)
  func readsAndWritesCarryTheirBytes(_ kind: Kind) throws {
    let server = try ServerProcess([kind.rawValue])
    #expect(server.ready.contains(kind == .rings ? "transport=io_uring" : "transport=/dev/fuse"))
    let memory = try Client.readAll("\(server.mountPoint)/memory")
    #expect(memory.count == 3 << 20)
    #expect(memory.indices.allSatisfy { memory[$0] == Self.pattern($0) })

    let file = try Client.open("\(server.mountPoint)/written", O_RDWR)
    defer { close(file) }
    var expected: [UInt8] = []
    // Below, at and above what a ring copies, and above one request.
    for size in [1, 4095, 4096, 4097, 70_000, 1 << 20, (1 << 20) + 3] {
      let piece = (0..<size).map { Self.pattern($0 &* 7 &+ size) }
      try Client.write(file, piece, at: expected.count)
      expected += piece
    }
    #expect(try Client.read(file, expected.count + 10, at: 0) == expected)
    #expect(try Client.read(file, 100, at: 5000) == Array(expected[5000..<5100]))
  }

  @Test(.enabled(if: FuseDevice.isUsable), arguments: Kind.here)
  func manyClientsAreServedAtOnce(_ kind: Kind) throws {
    let server = try ServerProcess([kind.rawValue, "depth=2"])
    let mountPoint = server.mountPoint
    let failures = onThreads(8) { index in
      let file = try Client.open("\(mountPoint)/memory", O_RDONLY | O_DIRECT_FLAG)
      defer { close(file) }
      for round in 0..<150 {
        let offset = (index * 37 + round * 11) % 700 * 4096
        let bytes = try Client.read(file, 4096, at: offset)
        guard bytes.count == 4096,
          bytes.indices.allSatisfy({ bytes[$0] == Self.pattern(offset + $0) })
        else { throw TransportTestError(description: "wrong bytes at \(offset)") }
        var status = stat()
        guard stat("\(mountPoint)/written", &status) == 0 else {
          throw ServerProcess.failure("stat")
        }
      }
    }
    #expect(failures == [])
  }

  @Test(.enabled(if: FuseDevice.isUsable), arguments: Kind.here)
  func directoriesAndNewFilesWork(_ kind: Kind) throws {
    let server = try ServerProcess([kind.rawValue])
    let file = try Client.open("\(server.mountPoint)/new", O_RDWR | O_CREAT | O_EXCL)
    try Client.write(file, Array("hello".utf8), at: 0)
    close(file)
    #expect(try Client.readAll("\(server.backing)/new") == Array("hello".utf8))
    var names: Set<String> = []
    if let directory = opendir(server.mountPoint) {
      while let entry = readdir(directory) {
        names.insert(
          withUnsafeBytes(of: entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
          })
      }
      closedir(directory)
    }
    #expect(names.isSuperset(of: ["memory", "written", "new"]))
    #expect(Glibc.open("\(server.mountPoint)/absent", O_RDONLY) == -1 && errno == ENOENT)
  }

  @Test(.enabled(if: FuseDevice.isUsable && FuseDevice.offersRings))
  func operationWithoutReplyFailsInsteadOfHanging() throws {
    let server = try ServerProcess(["io_uring=on"])
    let file = try Client.open("\(server.mountPoint)/silent")
    defer { close(file) }
    var byte: UInt8 = 0
    #expect(read(file, &byte, 1) == -1 && errno == EIO)
    #expect(try Client.readAll("\(server.mountPoint)/memory").count == 3 << 20)
  }

  /// Each processor has one queue, with one thread; two reads that wait for each other show that there are more.
  @Test(.enabled(if: FuseDevice.isUsable && FuseDevice.offersRings))
  func slowKindsOfRequestsDoNotHoldUpTheirQueue() throws {
    let server = try ServerProcess(["io_uring=on"])
    let mountPoint = server.mountPoint
    @Sendable func readAlone(_ name: String) throws {
      guard scrim_pin_thread(0) == 0 else {
        throw TransportTestError(description: "no way onto the first processor")
      }
      let file = try Client.open("\(mountPoint)/\(name)", O_RDONLY | O_DIRECT_FLAG)
      defer { close(file) }
      guard try Client.read(file, 4096, at: 0).count == 4096 else {
        throw TransportTestError(description: "\(name): nothing")
      }
    }
    #expect(onThreads(1) { _ in try readAlone("slow") } == [])
    #expect(onThreads(2) { _ in try readAlone("meeting") } == [])
    #expect(try Client.readAll("\(mountPoint)/memory").count == 3 << 20)
    #expect(server.unmount())
    #expect(try server.end().line == "end unmounted")
  }

  @Test(.enabled(if: FuseDevice.isUsable), arguments: Kind.here)
  func unmountOfAnIdleMountEndsTheServer(_ kind: Kind) throws {
    let server = try ServerProcess([kind.rawValue])
    _ = try Client.readAll("\(server.mountPoint)/memory")
    #expect(server.unmount())
    let end = try server.end()
    #expect(end.line == "end unmounted")
    #expect(end.status == 0)
  }

  @Test(.enabled(if: FuseDevice.isUsable))
  func mountPointInUseIsRefusedWithTheCause() throws {
    let server = try ServerProcess()
    var options = SessionOptions(source: "/vault")
    options.subtype = "scrimtest"
    #expect(throws: MountError.alreadyMounted(server.mountPoint)) {
      try MountPoint.check(server.mountPoint, options: options)
    }
    server.signal(SIGKILL)
    server.reap()
    #expect(throws: MountError.staleMount(server.mountPoint)) {
      try MountPoint.check(server.mountPoint, options: options)
    }
  }

  @Test(.enabled(if: FuseDevice.isUsable), arguments: Kind.here)
  func terminationSignalUnmounts(_ kind: Kind) throws {
    let server = try ServerProcess([kind.rawValue])
    server.signal(SIGTERM)
    let end = try server.end()
    #expect(end.line == "end signalled(\(SIGTERM))")
    #expect(end.status == 0)
    #expect(!server.isMounted)
  }

  @Test(.enabled(if: FuseDevice.isUsable), arguments: Kind.here)
  func terminationSignalEndsAMountInUse(_ kind: Kind) throws {
    let server = try ServerProcess([kind.rawValue])
    let file = try Client.open("\(server.mountPoint)/slow")
    defer { close(file) }
    server.signal(SIGINT)
    let end = try server.end()
    #expect(end.line == "end signalled(\(SIGINT))")
    #expect(!server.isMounted)
    var byte: UInt8 = 0
    #expect(read(file, &byte, 1) == -1)
  }

  @Test(.enabled(if: FuseDevice.isUsable), arguments: Kind.here)
  func killedServerLeavesNobodyHanging(_ kind: Kind) throws {
    let server = try ServerProcess([kind.rawValue])
    let mountPoint = server.mountPoint
    let pid = server.pid
    let files = try (0..<3).map { _ in
      try Client.open("\(mountPoint)/slow", O_RDONLY | O_DIRECT_FLAG)
    }
    defer { for file in files { close(file) } }
    // One thread kills the server in the middle of the other threads' requests.
    let failures = onThreads(4) { index in
      if index == 3 {
        usleep(200_000)
        kill(pid, SIGKILL)
        return
      }
      for _ in 0..<200 {
        var byte = [UInt8](repeating: 0, count: 4096)
        if pread(files[index], &byte, 4096, 0) < 0 { return }
      }
      throw TransportTestError(description: "reads went on after the server was gone")
    }
    #expect(failures == [])
    server.reap()
    var status = stat()
    #expect(stat("\(mountPoint)/memory", &status) == -1)
  }
}

/// O_DIRECT, which Glibc's module does not show; bypasses the page cache, so every read is a request.
let O_DIRECT_FLAG: Int32 = {
  #if arch(arm64)
    0o200000
  #else
    0o40000
  #endif
}()
