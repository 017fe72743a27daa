import Container
import Logging
import Primitives
import TestSupport
import Testing
import Vault

@testable import Mount

@Suite struct OpenDirectoryTests {
  /// A vault in a temporary folder, open for writing, with a file system over it that is not mounted.
  final class Fixture {
    let folder: TemporaryDirectory
    let fileSystem: FileSystem

    init(names: NamePolicy, entries: Int) throws {
      folder = try TemporaryDirectory()
      let secret = Array("secret".utf8).withUnsafeBytes { SecretBytes(copying: $0) }
      let path = "\(folder.path)/vault"
      try Vault.create(
        at: path, slots: [SlotRequest(secret: .keyFile(secret))], names: names, cost: .low)
      let vault = try Vault.open(at: path, secret: .keyFile(secret), access: .readWrite)
      fileSystem = try FileSystem(
        vault: vault, root: vault.root, owners: OwnerMap(),
        timeouts: Timeouts(exclusive: 1, shared: 1, negative: 0), isReadOnly: false,
        gathersWrites: false, isRootsAlone: false,
        log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      for index in 0..<entries {
        _ = try vault.root.makeDirectory(Self.name(index), mode: 0o755, owner: nil)
      }
    }

    deinit { try? fileSystem.vault.close() }

    static func name(_ index: Int) -> [UInt8] { Array("entry \(index)".utf8) }

    func open() throws -> OpenDirectory {
      try OpenDirectory(fileSystem.table.root, fileSystem.vault.root)
    }
  }

  /// Reads on from `cookie` in portions, each of which meets one entry more than it has room for.
  static func names(
    _ stream: OpenDirectory, from cookie: inout Int64, portion: Int, upTo limit: Int = .max
  ) throws -> [String] {
    var names: [String] = []
    while names.count < limit {
      var room = portion
      try stream.list(from: cookie) { item in
        guard room > 0 else { return false }
        room -= 1
        names.append(String(decoding: item.name, as: UTF8.self))
        cookie = item.cookie
        return true
      }
      if room == portion { break }
    }
    return names
  }

  @Test(arguments: [NamePolicy.plain, .sealed])
  func everyEntryComesOnceHoweverSmallThePortions(_ policy: NamePolicy) throws {
    let fixture = try Fixture(names: policy, entries: 60)
    let expected = Set((0..<60).map { "entry \($0)" } + [".", ".."])
    for portion in [1, 7, 1000] {
      var cookie: Int64 = 0
      let names = try Self.names(fixture.open(), from: &cookie, portion: portion)
      #expect(names.count == expected.count)
      #expect(Set(names) == expected)
    }
  }

  @Test func positionsStayValidForAnotherStream() throws {
    let fixture = try Fixture(names: .sealed, entries: 40)
    var cookie: Int64 = 0
    let first = try Self.names(fixture.open(), from: &cookie, portion: 5, upTo: 20)
    let rest = try Self.names(fixture.open(), from: &cookie, portion: 5)
    #expect(Set(first).isDisjoint(with: rest))
    #expect(first.count + rest.count == 42)
  }

  @Test func entriesThatStayAreListedOnceWhileOthersGo() throws {
    let fixture = try Fixture(names: .sealed, entries: 50)
    let stream = try fixture.open()
    var cookie: Int64 = 0
    var names = try Self.names(stream, from: &cookie, portion: 4, upTo: 24)
    for index in stride(from: 0, to: 50, by: 2) {
      try fixture.fileSystem.vault.root.removeDirectory(Fixture.name(index))
    }
    names += try Self.names(stream, from: &cookie, portion: 4)
    #expect(Set(names).count == names.count)
    for index in stride(from: 1, to: 50, by: 2) { #expect(names.contains("entry \(index)")) }
  }

  @Test func startingAgainShowsWhatIsNew() throws {
    let fixture = try Fixture(names: .sealed, entries: 3)
    let stream = try fixture.open()
    var cookie: Int64 = 0
    _ = try Self.names(stream, from: &cookie, portion: 10)
    _ = try fixture.fileSystem.vault.root.makeDirectory(
      Array("new".utf8), mode: 0o755, owner: nil)
    cookie = 0
    #expect(try Self.names(stream, from: &cookie, portion: 10).contains("new"))
  }
}

@Suite struct FileSystemTests {
  @Test func renamedDirectoryIsFoundThroughItsInode() throws {
    let fixture = try OpenDirectoryTests.Fixture(names: .sealed, entries: 2)
    let fileSystem = fixture.fileSystem
    let parent = try #require(try fileSystem.lookup(1, Array("entry 0".utf8)).inode)
    let caller = Caller(uid: 0, gid: 0, umask: 0)
    let child = try #require(
      try fileSystem.makeDirectory(parent.nodeid, Array("child".utf8), mode: 0o755, caller).inode)
    try fileSystem.rename(
      1, Array("entry 0".utf8), 1, Array("moved".utf8), flags: [])
    fileSystem.directories.removeAll()
    #expect(fileSystem.path(child) == "/moved/child")
    #expect(try fileSystem.directory(child).identity.inode == child.identity.inode)
  }

  @Test func writtenContentIsCommittedByTheLastRelease() throws {
    let fixture = try OpenDirectoryTests.Fixture(names: .plain, entries: 0)
    let fileSystem = fixture.fileSystem
    let caller = Caller(uid: 0, gid: 0, umask: 0)
    let name = Array("file".utf8)
    let made = try fileSystem.createAndOpen(
      1, name, mode: 0o644, flags: 0, caller, stripping: nil)
    let inode = try #require(made.entry.inode)
    try Array("content".utf8).withUnsafeBytes { bytes in
      for appends in [false, true] {
        try fileSystem.write(
          inode.nodeid, at: 0, from: bytes, appends: appends, isGathered: false, stripping: nil)
      }
    }
    #expect(try fileSystem.status(inode).size == 14)
    try fileSystem.close(inode.nodeid, flags: 0)
    #expect(made.opened.file.sharedContainer()?.isDirty == false)
    let entry = try #require(try fileSystem.vault.root.lookup(name))
    #expect(try fileSystem.vault.root.plainStatus(entry).size == 14)
  }

  @Test func closedFileStaysOpenForItsSyncAndThenCloses() throws {
    let fixture = try OpenDirectoryTests.Fixture(names: .plain, entries: 0)
    let fileSystem = fixture.fileSystem
    let caller = Caller(uid: 0, gid: 0, umask: 0)
    let made = try fileSystem.createAndOpen(
      1, Array("file".utf8), mode: 0o644, flags: 0, caller, stripping: nil)
    let inode = try #require(made.entry.inode)
    try fileSystem.close(inode.nodeid, flags: 0)
    #expect(inode.file != nil)
    fileSystem.settleEverything()
    #expect(inode.file == nil)
  }

  @Test func failedCreationLeavesNoInode() throws {
    let fixture = try OpenDirectoryTests.Fixture(names: .sealed, entries: 1)
    let fileSystem = fixture.fileSystem
    let caller = Caller(uid: 0, gid: 0, umask: 0)
    #expect(throws: (any Error).self) {
      try fileSystem.makeDirectory(1, Array("entry 0".utf8), mode: 0o755, caller)
    }
    #expect(fileSystem.table.count == 1)
  }
}
