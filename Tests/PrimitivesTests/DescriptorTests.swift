import Glibc
import Primitives
import SystemPackage
import TestSupport
import Testing

@Suite struct DescriptorTests {
  private let directory: TemporaryDirectory
  private var root: Int32 { directory.descriptor.rawValue }

  init() throws { directory = try TemporaryDirectory(.disk) }

  private func name(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

  /// A pipe shows whether its writing end is open. Numbers of descriptors are reused by other
  /// threads, so they cannot.
  private final class Pipe {
    let reader: OwnedFD
    let writer: Int32

    init() throws {
      var ends: [Int32] = [0, 0]
      try #require(pipe(&ends) == 0)
      reader = OwnedFD(owning: ends[0])
      writer = ends[1]
    }

    /// Waits for the end of the stream when it is expected: a process that another test forks may
    /// hold the writing end for a moment.
    func isHungUp(within seconds: Int32) -> Bool {
      var poll = pollfd(fd: reader.rawValue, events: Int16(POLLIN), revents: 0)
      return Glibc.poll(&poll, 1, seconds * 1000) == 1 && Int32(poll.revents) & POLLHUP != 0
    }
  }

  @Test func anOwnedDescriptorIsClosedWithItsOwner() throws {
    let first = try Pipe()
    let owner = OwnedFD(owning: first.writer)
    #expect(!first.isHungUp(within: 0))
    try owner.close()
    #expect(first.isHungUp(within: 60))
    let second = try Pipe()
    do { _ = OwnedFD(owning: second.writer) }
    #expect(second.isHungUp(within: 60))
  }

  @Test func aReleasedDescriptorStaysOpen() throws {
    let pipe = try Pipe()
    let number = OwnedFD(owning: pipe.writer).release()
    #expect(number == pipe.writer)
    #expect(!pipe.isHungUp(within: 0))
    try OwnedFD(owning: number).close()
  }

  @Test func aSharedDescriptorIsClosedAtTheLastRelease() throws {
    let pipe = try Pipe()
    var owners = [SharedFD](repeating: SharedFD(OwnedFD(owning: pipe.writer)), count: 3)
    while !owners.isEmpty {
      #expect(!pipe.isHungUp(within: 0))
      owners.removeLast()
    }
    #expect(pipe.isHungUp(within: 60))
  }

  @Test func closingReportsItsError() {
    #expect(throws: Errno.badFileDescriptor) { try OwnedFD(owning: 1 << 29).close() }
  }

  @Test func descriptorsAreNotInherited() throws {
    let file = try Sys.openat(root, name("."), [.readOnly, .directory])
    let copy = try Sys.duplicate(file.rawValue)
    for number in [file.rawValue, copy.rawValue] {
      #expect(fcntl(number, F_GETFD) & FD_CLOEXEC != 0)
    }
  }

  @Test func everyEntryIsReadOnceWithASmallBuffer() throws {
    var expected: Set<[UInt8]> = []
    for index in 0..<300 {
      let entry = name("entry-\(index)-" + String(repeating: "x", count: index % 200))
      _ = try directory.makeFile(String(decoding: entry, as: UTF8.self))
      expected.insert(entry)
    }
    try Sys.mkdirat(root, name("child"), mode: 0o700)
    let listing = try Sys.entries(of: root)
    #expect(listing.count == 301)
    #expect(Set(listing.map(\.name)) == expected.union([name("child")]))
    #expect(listing.first { $0.name == name("child") }?.kind == .directory)

    let stream = try Sys.openat(root, name("."), [.readOnly, .directory])
    var reader = DirectoryReader(stream.rawValue, bufferSize: 1024)
    var seen: [(name: [UInt8], next: Int64)] = []
    while let entry = try reader.next() {
      seen.append(([UInt8](entry.name), entry.nextOffset))
      #expect(entry.isDot == ([name("."), name("..")].contains([UInt8](entry.name))))
    }
    #expect(Set(seen.map(\.name)).count == seen.count && seen.count == 303)
    for index in [0, 1, 150, 301] {
      try reader.seek(to: seen[index].next)
      let entry = try #require(try reader.next())
      #expect([UInt8](entry.name) == seen[index + 1].name)
    }
  }

  @Test func attributesAreSetReadListedAndRemoved() throws {
    let file = try directory.makeFile("file")
    let fd = file.rawValue
    let path = try Sys.openat(root, name("file"), [.path])
    let attribute = name("user.scrim.test")
    // 300 bytes are more than the first guess, 3000 fit an ext4 block.
    for count in [0, 1, 256, 300, 3000] {
      let value = [UInt8](repeating: 7, count: count)
      try Sys.fsetxattr(fd, attribute, value)
      #expect(try Sys.fgetxattr(fd, attribute) == value)
      #expect(try Sys.getxattrPath(path.rawValue, attribute) == value)
    }
    #expect(throws: Errno.fileExists) {
      try Sys.fsetxattr(fd, attribute, [1], mode: .createOnly)
    }
    #expect(throws: Errno.noData) {
      try Sys.setxattrPath(path.rawValue, name("user.other"), [1], mode: .replaceOnly)
    }
    try Sys.setxattrPath(path.rawValue, name("user.other"), [1, 2])
    for list in [try Sys.flistxattr(fd), try Sys.listxattrPath(path.rawValue)] {
      let names = Set(list.split(separator: 0).map { [UInt8]($0) })
      #expect(names.isSuperset(of: [attribute, name("user.other")]))
    }
    try Sys.fremovexattr(fd, attribute)
    try Sys.removexattrPath(path.rawValue, name("user.other"))
    #expect(throws: Errno.noData) { try Sys.fgetxattr(fd, attribute) }
    #expect(throws: Errno.noData) { try Sys.getxattrPath(path.rawValue, name("user.other")) }
    let space = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    try Sys.fsetxattr(fd, attribute, [1, 2, 3])
    #expect(try Sys.fgetxattr(fd, attribute, into: space) == 3)
  }

  @Test func writersExcludeAndReadersShare() async {
    final class Counter: @unchecked Sendable {
      // Guarded by `lock`.
      var value = 0
      let lock = ReadWriteLock()
    }
    let counter = Counter()
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask {
          for _ in 0..<2000 { counter.lock.withWriteLock { counter.value += 1 } }
        }
        group.addTask {
          var last = 0
          for _ in 0..<2000 {
            let value = counter.lock.withReadLock { counter.value }
            #expect(value >= last)
            last = value
          }
        }
      }
    }
    #expect(counter.lock.withReadLock { counter.value } == 8000)
  }

  @Test func aTemporaryDirectoryIsGoneWithItsContents() throws {
    let path: String
    do {
      let temporary = try TemporaryDirectory()
      path = temporary.path
      let number = temporary.descriptor.rawValue
      try Sys.mkdirat(number, name("child"), mode: 0o700)
      try Sys.symlinkat(target: name("/"), number, name("child/link"))
      _ = try temporary.makeFile("child/file", [1])
    }
    #expect(throws: Errno.noSuchFileOrDirectory) {
      try Sys.statx(Sys.currentDirectory, name(path))
    }
  }
}
