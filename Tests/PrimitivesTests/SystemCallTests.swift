import Glibc
@testable import Primitives
import SystemPackage
import TestSupport
import Testing

@Suite struct SystemCallTests {
  private let directory: TemporaryDirectory
  private var root: Int32 { directory.descriptor.rawValue }

  init() throws { directory = try TemporaryDirectory() }

  private func name(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

  @Test func interruptedCallsAreRepeatedAndOtherErrorsThrown() throws {
    var calls = 0
    let result = try Sys.retry { () -> Int32 in
      calls += 1
      errno = EINTR
      return calls < 4 ? -1 : 17
    }
    #expect(result == 17 && calls == 4)
    #expect(throws: Errno.noSpace) {
      try Sys.retry { () -> Int in
        errno = ENOSPC
        return -1
      }
    }
  }

  @Test func aWaitForALockSurvivesSignals() throws {
    // Without SA_RESTART the kernel ends the wait with EINTR.
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(SIGUSR2, &action, nil)
    let file = try directory.makeFile("lock")
    try Sys.setLock(file.rawValue, RecordLock(.exclusive))

    final class Waiter: @unchecked Sendable {
      // Written by the waiting thread, read after joining it.
      var outcome: Errno?
      let other: OwnedFD
      init(_ other: consuming OwnedFD) { self.other = other }
    }
    let waiter = Waiter(try Sys.openat(root, name("lock"), [.readWrite]))
    var thread = pthread_t()
    let made = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        let waiter = Unmanaged<Waiter>.fromOpaque(argument).takeUnretainedValue()
        do throws(Errno) {
          try Sys.setLock(waiter.other.rawValue, RecordLock(.exclusive), wait: true)
        } catch {
          waiter.outcome = error
        }
        return nil
      }, Unmanaged.passUnretained(waiter).toOpaque())
    try #require(made == 0)
    for _ in 0..<20 {
      usleep(2000)
      pthread_kill(thread, SIGUSR2)
    }
    try Sys.setLock(file.rawValue, RecordLock(.unlocked))
    pthread_join(thread, nil)
    #expect(waiter.outcome == nil)
    #expect(try Sys.queryLock(file.rawValue, RecordLock(.shared))?.kind == .exclusive)
  }

  @Test func locksOfTwoDescriptionsConflict() throws {
    let first = try directory.makeFile("lock")
    let second = try Sys.openat(root, name("lock"), [.readWrite])
    try Sys.setLock(first.rawValue, RecordLock(.exclusive, start: 10, length: 5))
    #expect(throws: Errno.resourceTemporarilyUnavailable) {
      try Sys.setLock(second.rawValue, RecordLock(.shared, start: 14, length: 1))
    }
    let held = try #require(try Sys.queryLock(second.rawValue, RecordLock(.exclusive)))
    #expect(held.kind == .exclusive && held.start == 10 && held.length == 5 && held.pid == -1)
    try Sys.setLock(second.rawValue, RecordLock(.exclusive, start: 15))
    #expect(try Sys.queryLock(second.rawValue, RecordLock(.shared, start: 0, length: 10)) == nil)
    try Sys.flock(first.rawValue, LOCK_EX)
    #expect(throws: Errno.wouldBlock) { try Sys.flock(second.rawValue, LOCK_EX | LOCK_NB) }
  }

  @Test func aZeroInsideANameIsRefused() {
    #expect(throws: Errno.invalidArgument) { try Sys.mkdirat(root, [97, 0, 98], mode: 0o700) }
    #expect(throws: Errno.invalidArgument) { try Sys.unlinkat(root, [0]) }
    #expect(throws: Errno.noSuchFileOrDirectory) { try Sys.statx(root, []) }
    #expect(throws: Errno.fileNameTooLong) {
      try Sys.statx(root, [UInt8](repeating: 97, count: 256))
    }
    #expect(throws: Errno.fileNameTooLong) {
      try Sys.statx(root, [UInt8](repeating: 97, count: 100_000))
    }
  }

  @Test func readsAndWritesAreWhole() throws {
    var random = SeededRandom(for: "system calls")
    let content = random.bytes(300_000)
    let file = try directory.makeFile("data", content)
    var read = [UInt8](repeating: 0, count: 400_000)
    #expect(try read.withUnsafeMutableBytes { try Sys.pread(file.rawValue, $0, at: 0) } == 300_000)
    #expect([UInt8](read[..<300_000]) == content)
    #expect(try read.withUnsafeMutableBytes { try Sys.pread(file.rawValue, $0, at: 299_999) } == 1)
    #expect(try read.withUnsafeMutableBytes { try Sys.pread(file.rawValue, $0, at: 300_000) } == 0)
    #expect(throws: Errno.invalidArgument) {
      try read.withUnsafeMutableBytes { _ = try Sys.pread(file.rawValue, $0, at: -1) }
    }
    #expect(throws: Errno.badFileDescriptor) {
      try content.withUnsafeBytes { try Sys.pwrite(-1, $0, at: 0) }
    }
  }

  @Test func vectorsBeyondTheSystemsLimitAreWhole() throws {
    var random = SeededRandom(for: "vectors")
    let file = try directory.makeFile("vectors")
    // More than IOV_MAX, some empty.
    let lengths = (0..<2500).map { _ in Int.random(in: 0...40, using: &random) }
    var content = random.bytes(lengths.reduce(0, +))
    let expected = content
    try content.withUnsafeMutableBytes { bytes in
      var vectors = split(bytes, lengths)
      try vectors.withUnsafeMutableBufferPointer { try Sys.pwritev(file.rawValue, $0, at: 7) }
      bytes.wipe()
      vectors = split(bytes, lengths)
      let count = try vectors.withUnsafeMutableBufferPointer {
        try Sys.preadv(file.rawValue, $0, at: 7)
      }
      #expect(count == expected.count)
      vectors = split(bytes, lengths)
      let atEnd = try vectors.withUnsafeMutableBufferPointer {
        try Sys.preadv(file.rawValue, $0, at: 7 + Int64(expected.count) - 100)
      }
      #expect(atEnd == 100)
      vectors = split(bytes, lengths)
      try vectors.withUnsafeMutableBufferPointer { _ = try Sys.preadv(file.rawValue, $0, at: 7) }
    }
    #expect(content == expected)
    #expect(try Sys.fstatx(file.rawValue, fields: .size).size == UInt64(7 + expected.count))
  }

  private func split(_ bytes: UnsafeMutableRawBufferPointer, _ lengths: [Int]) -> [iovec] {
    var offset = 0
    return lengths.map { length in
      defer { offset += length }
      return iovec(iov_base: bytes.baseAddress.map { $0 + offset }, iov_len: length)
    }
  }

  @Test func statusShowsWhatWasSet() throws {
    let file = try directory.makeFile("file", [1, 2, 3])
    let modification = TimeSpec(seconds: -5, nanoseconds: 123_456_789)
    try Sys.futimens(file.rawValue, access: .omit, modification: .set(modification))
    try Sys.fchmod(file.rawValue, mode: 0o640)
    let status = try Sys.statx(root, name("file"), fields: [.basic, .btime, .mount])
    #expect(status.kind == .regular && status.mode & 0o7777 == 0o640)
    #expect(status.size == 3 && status.links == 1 && status.mtime == modification)
    #expect(status.uid == getuid() && status.inode != 0 && status.mountID != 0)
    #expect(try Sys.fstatx(file.rawValue).inode == status.inode)
    try Sys.mkdirat(root, name("child"), mode: 0o700)
    #expect(try Sys.statx(root, name("child"), fields: .type).kind == .directory)
    try Sys.mknodat(root, name("pipe"), mode: UInt32(S_IFIFO) | 0o600)
    #expect(try Sys.statx(root, name("pipe"), fields: .type).kind == .fifo)
  }

  @Test func pathDescriptorsAllowWhatTheyCan() throws {
    _ = try directory.makeFile("file", [1])
    let path = try Sys.openat(root, name("file"), [.path, .noFollow])
    try Sys.chmodPath(path.rawValue, mode: 0o604)
    try Sys.futimens(
      path.rawValue, access: .set(TimeSpec(seconds: 1, nanoseconds: 2)), modification: .now)
    try Sys.fchownat(path.rawValue, uid: getuid(), gid: nil)
    try Sys.faccessat(path.rawValue, [], mode: R_OK)
    try Sys.link(path.rawValue, to: root, name("second"))
    let status = try Sys.fstatx(path.rawValue)
    #expect(status.mode & 0o777 == 0o604 && status.links == 2)
    #expect(status.atime == TimeSpec(seconds: 1, nanoseconds: 2))
    let opened = try Sys.reopen(path.rawValue, [.readOnly, .noFollow])
    #expect(try Sys.fstatx(opened.rawValue).inode == status.inode)

    try Sys.symlinkat(target: name("nowhere"), root, name("link"))
    let link = try Sys.openat(root, name("link"), [.path, .noFollow])
    #expect(try Sys.fstatx(link.rawValue).kind == .symbolicLink)
    #expect(try Sys.readlinkat(link.rawValue, []) == name("nowhere"))
    try Sys.futimens(
      link.rawValue, access: .omit, modification: .set(TimeSpec(seconds: 9, nanoseconds: 0)))
    #expect(try Sys.statx(root, name("link")).mtime.seconds == 9)
    #expect(throws: Errno.tooManySymbolicLinkLevels) {
      _ = try Sys.reopen(link.rawValue, [.readOnly])
    }
  }

  @Test(arguments: [1, 255, 256, 257, 4095])
  func linkTargetsOfEveryLengthAreReadWhole(count: Int) throws {
    let target = [UInt8](repeating: 120, count: count)
    try Sys.symlinkat(target: target, root, name("link"))
    #expect(try Sys.readlinkat(root, name("link")) == target)
  }

  @Test func namesMoveLinkAndGo() throws {
    _ = try directory.makeFile("a", [1])
    _ = try directory.makeFile("b", [2])
    #expect(throws: Errno.fileExists) {
      try Sys.renameat2(root, name("a"), root, name("b"), flags: .noReplace)
    }
    try Sys.renameat2(root, name("a"), root, name("b"), flags: .exchange)
    #expect(try directory.contents("a") == [2])
    try Sys.linkat(root, name("a"), root, name("c"))
    try Sys.renameat2(root, name("a"), root, name("b"))
    #expect(try directory.contents("b") == [2])
    try Sys.unlinkat(root, name("c"))
    #expect(throws: Errno.noSuchFileOrDirectory) { try Sys.statx(root, name("c")) }
    try Sys.mkdirat(root, name("d"), mode: 0o700)
    #expect(throws: Errno.isDirectory) { try Sys.unlinkat(root, name("d")) }
    try Sys.unlinkat(root, name("d"), isDirectory: true)
  }

  @Test func spaceIsAllocatedPunchedAndFound() throws {
    let file = try directory.makeFile("space", [UInt8](repeating: 1, count: 65536))
    let fd = file.rawValue
    try Sys.fallocate(fd, mode: [.punchHole, .keepSize], offset: 16384, length: 16384)
    #expect(try Sys.lseek(fd, 0, .hole) == 16384)
    #expect(try Sys.lseek(fd, 16384, .data) == 32768)
    #expect(throws: Errno.noSuchAddressOrDevice) { try Sys.lseek(fd, 65536, .data) }
    try Sys.fallocate(fd, mode: .keepSize, offset: 0, length: 131072)
    #expect(try Sys.fstatx(fd).size == 65536)
    try Sys.ftruncate(fd, size: 100)
    let copy = try directory.makeFile("copy")
    #expect(
      try Sys.copyFileRange(from: fd, at: 50, to: copy.rawValue, at: 0, count: 100) == 50)
    #expect(try Sys.statfs(fd).blocks > 0)
    try Sys.fsync(fd)
    try Sys.fdatasync(fd)
    try Sys.syncfs(fd)
  }
}
