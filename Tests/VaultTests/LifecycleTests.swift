import Container
import Glibc
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// Opening, closing, locking, crashing, only reading.
@Suite struct LifecycleTests {
  @Test func aSecondWriterIsToldWhoTheFirstIs() throws {
    let vault = try TestVault()
    #expect {
      try Vault.open(at: vault.path, secret: testSecret, access: .readWrite)
    } throws: { error in
      guard case .locked(let holder)? = error as? VaultError else { return false }
      return holder.hasPrefix("process \(Sys.processID) on ")
    }
    _ = try Vault.open(at: vault.path, secret: testSecret, access: .readOnly)
    try vault.reopen()
  }

  /// The disk was full from the file's creation to the end of the session.
  @Test(arguments: [false, true]) func aFileThatCouldNeverBeCommitted(isToldOf: Bool) throws {
    let vault = try TestVault()
    _ = try vault.root.createFile(bytes("file"), mode: 0o644, owner: nil)
    if isToldOf { vault.vault.noteLostChanges() }
    try vault.reopen()
    if isToldOf {
      #expect(try vault.root.content("file").isEmpty)
    } else {
      #expect(isRejected { try vault.root.content("file") })
    }
  }

  @Test func aReaderWritesNothing() throws {
    let vault = try TestVault()
    try vault.root.makeDirectory("d").makeFile("f", bytes("content"))
    try vault.root.makeFile([UInt8](repeating: 65, count: 200), bytes("long"))
    _ = try vault.root.makeSymbolicLink(bytes("l"), target: bytes("t"), owner: nil)
    try vault.reopen(.readOnly)
    let before = try snapshot(vault)
    #expect(try vault.root.directory("d").content("f") == bytes("content"))
    #expect(try vault.root.list().count == 3)
    #expect(try vault.root.content([UInt8](repeating: 65, count: 200)) == bytes("long"))
    #expect(try vault.root.readLink(try vault.root.find("l")) == bytes("t"))
    for change: () throws -> Void in [
      { try vault.root.makeDirectory("x") }, { try vault.root.makeFile("x") },
      { try vault.root.removeFile(bytes("l")) },
      { try vault.root.rename(bytes("l"), to: vault.root, bytes("m")) },
      { try vault.root.setPolicy(content: .plain) },
    ] {
      #expect(throws: VaultError.self) { try change() }
    }
    try vault.vault.close()
    #expect(try snapshot(vault) == before)
  }

  /// Names, contents and all three times of everything in the backing folder.
  private func snapshot(_ vault: TestVault) throws -> [String] {
    var lines: [String] = []
    func walk(_ path: String) throws {
      let directory = try Sys.openat(
        vault.folder.descriptor.rawValue, bytes(path), [.readOnly, .directory, .noAccessTime])
      for entry in try Sys.entries(of: directory.rawValue) {
        let name = path + "/" + String(decoding: entry.name, as: UTF8.self)
        let status = try Sys.statx(directory.rawValue, entry.name)
        lines.append(
          "\(name) \(status.inode) \(status.mode) \(status.size) \(status.mtime) \(status.ctime)")
        if entry.kind == .directory { try walk(name) }
      }
    }
    try walk("vault")
    return lines.sorted()
  }

  @Test func sessionsFollowEachOther() throws {
    let vault = try TestVault()
    let first = vault.vault.session
    #expect(vault.vault.uncleanWindows.isEmpty)
    try vault.reopen()
    #expect(vault.vault.session > first)
    #expect(vault.vault.uncleanWindows.isEmpty)
    let second = vault.vault.session
    try vault.crash()
    #expect(vault.vault.session > second)
    #expect(vault.vault.uncleanWindows.count == 1)
  }

  @Test func aTornSessionPageLeavesTheOtherOne() throws {
    let vault = try TestVault()
    let session = vault.vault.session
    try vault.vault.close()
    var content = try vault.folder.contents("vault/scrim.session")
    #expect(content.count == 8192)
    // Three changes so far: created, opened, closed; the last one went to page 0.
    for index in 0..<4096 where index.isMultiple(of: 7) { content[index] ^= 1 }
    let torn = try vault.folder.makeFile("vault/scrim.session", content)
    _ = consume torn
    let reader = try Vault.open(at: vault.path, secret: testSecret, access: .readOnly)
    #expect(reader.session == session)
    #expect(reader.uncleanWindows.count == 1)
    let empty = try vault.folder.makeFile("vault/scrim.session")
    _ = consume empty
    #expect(isRejected { try Vault.open(at: vault.path, secret: testSecret, access: .readOnly) })
  }

  @Test func afterACrashUnfinishedFilesAreEmptyAndElsewhereDamage() throws {
    let vault = try TestVault()
    try vault.root.makeFile("kept", bytes("kept"))
    _ = try vault.root.createFile(bytes("unfinished"), mode: 0o644, owner: nil)
    try vault.crash()
    #expect(try vault.root.content("kept") == bytes("kept"))
    #expect(try vault.root.content("unfinished") == [])

    let clean = try TestVault()
    let entry = try clean.root.makeFile("emptied", bytes("x"))
    try clean.reopen()
    let path = "vault/tree/" + String(decoding: entry.backingName, as: UTF8.self)
    let emptied = try clean.folder.makeFile(path)
    _ = consume emptied
    let found = try clean.root.find("emptied")
    #expect(isRejected { try clean.root.openContainer(found) })
  }

  /// Data may reach the disk before the change time that would tell of the crash; the commit tells, too.
  @Test func aCommitOfACrashedSessionNeedsNoChangeTimeToBeTorn() throws {
    let vault = try TestVault()
    let content = [UInt8](repeating: 1, count: 20_000)
    let entry = try vault.root.makeFile("f", content)
    try vault.reopen()
    let path = "vault/tree/" + String(decoding: entry.backingName, as: UTF8.self)
    let before = try vault.folder.contents(path)
    do {
      let container = try vault.root.openContainer(try vault.root.find("f"))
      try [2].withUnsafeBytes { try container.file.write(at: 9000, from: $0) }
      try container.commit()
    }
    var torn = try vault.folder.contents(path)
    for page in 2..<torn.count / 4096 {
      let bytes = page * 4096..<(page + 1) * 4096
      if bytes.upperBound > before.count || torn[bytes] != before[bytes] {
        torn.replaceSubrange(bytes, with: repeatElement(0, count: 4096))
      }
    }
    try vault.crash()
    // Later than the window, however much the clock that stamps inodes lags.
    usleep(100_000)
    let file = try vault.folder.makeFile(path, torn)
    _ = consume file
    #expect(try vault.root.content("f") == content)
    // The next session has nothing to excuse, but still knows of the one that crashed.
    try vault.reopen()
    #expect(try vault.root.content("f") == content)
  }

  @Test func afterACrashAnEmptyDirectoryWithoutRecordGetsANewOne() throws {
    let vault = try TestVault()
    try vault.root.makeDirectory("d")
    let name = try vault.root.find("d").backingName
    let backing = try vault.backing([name])
    try vault.crash()
    // The clock that stamps inodes lags the one that ends the window, by a tick of the kernel.
    usleep(100_000)
    let record = try vault.folder.makeFile(
      "vault/tree/" + String(decoding: name, as: UTF8.self) + "/.scrim-dir")
    _ = consume record
    try? Sys.removexattrPath(backing.rawValue, bytes("user.scrim.dir"))
    // Touched now, so not within the window of the session that crashed.
    #expect(isRejected { try vault.root.directory("d") })
    try vault.crash()
    let directory = try vault.root.directory("d")
    try directory.makeFile("f", bytes("1"))
    try vault.reopen()
    #expect(try vault.root.directory("d").content("f") == bytes("1"))
  }

  @Test func aSidecarThatWasLostIsWrittenAgain() throws {
    let vault = try TestVault()
    let long = [UInt8](repeating: 66, count: 255)
    let entry = try vault.root.makeFile(long, bytes("x"))
    try Sys.unlinkat(vault.tree, entry.backingName + bytes(".n"))
    #expect(try vault.root.list().isEmpty)
    #expect(try vault.root.content(long) == bytes("x"))
    #expect(try vault.root.list().map(\.name) == [long])
    try vault.root.removeFile(long)
    #expect(try Sys.entries(of: vault.tree).map(\.name) == [bytes(".scrim-dir")])
  }

  @Test func foldersThatAreNoVaultAreSaidToBeNone() throws {
    let folder = try TemporaryDirectory()
    for path in [folder.path, folder.path("missing")] {
      #expect {
        try Vault.open(at: path, secret: testSecret, access: .readOnly)
      } throws: { error in
        if case .notAVault? = error as? VaultError { true } else { false }
      }
    }
    let file = try folder.makeFile("something")
    _ = consume file
    #expect(
      errno { try Vault.create(at: folder.path, slots: [SlotRequest(secret: testSecret)]) }
        == .directoryNotEmpty)
  }

  @Test func manyDirectoriesWorkWithFewDescriptors() throws {
    let folder = try TemporaryDirectory()
    let path = folder.path("vault")
    try Vault.create(at: path, slots: [SlotRequest(secret: testSecret)])
    let vault = try Vault.open(
      at: path, secret: testSecret, access: .readWrite, descriptorLimit: 16)
    var directories: [VaultDirectory] = []
    for index in 0..<100 { directories.append(try vault.root.makeDirectory("\(index)")) }
    for _ in 0..<3 {
      for directory in directories { #expect(try directory.lookup(bytes("none")) == nil) }
    }
    let descriptors = try Sys.openat(
      Sys.currentDirectory, bytes("/proc/self/fd"), [.readOnly, .directory])
    let open = try Sys.entries(of: descriptors.rawValue)
    let ours = open.filter { entry in
      let target = try? Sys.readlinkat(descriptors.rawValue, entry.name)
      return target?.starts(with: bytes(path + "/")) ?? false
    }
    #expect(ours.count < 30)
    try vault.close()
  }

  @Test func linksThatWaitForAnExchangeAreNoLeftovers() throws {
    let vault = try TestVault()
    let (root, tree) = (vault.root, vault.tree)
    var stored: [String: [UInt8]] = [:]
    for (name, target) in [("a", "second"), ("a", "first"), ("b", "first"), ("b", "second")] {
      if try root.lookup(bytes(name)) != nil { try root.removeFile(bytes(name)) }
      let link = try root.makeSymbolicLink(bytes(name), target: bytes(target), owner: nil)
      stored["\(name) \(target)"] = try Sys.readlinkat(tree, link.backingName)
    }
    // As a power cut leaves it between the exchange of the names and that of the targets.
    let (a, b) = (try root.find("a").backingName, try root.find("b").backingName)
    try Sys.renameat2(tree, a, tree, b, flags: .exchange)
    for (name, link) in [("1", "a second"), ("2", "b first")] {
      try Sys.symlinkat(
        target: try #require(stored[link]), tree, bytes(".scrim-new.\(name)"))
    }
    try root.removeLeftovers()
    #expect(try root.readLink(try root.find("a")) == bytes("second"))
    #expect(try root.readLink(try root.find("b")) == bytes("first"))
    let listing = try vault.backing()
    let left = try Sys.entries(of: listing.rawValue).filter {
      $0.name.starts(with: bytes(".scrim-new."))
    }
    #expect(left.isEmpty)
  }
}
