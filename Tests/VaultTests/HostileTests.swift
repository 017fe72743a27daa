import Container
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// What someone who can write the backing folder, but has no key, might do to directories.
@Suite struct HostileTests {
  private func rename(
    _ vault: TestVault, _ from: [[UInt8]], _ old: [UInt8], _ to: [[UInt8]], _ new: [UInt8],
    flags: RenameFlags = []
  ) throws {
    let (source, target) = (try vault.backing(from), try vault.backing(to))
    try Sys.renameat2(source.rawValue, old, target.rawValue, new, flags: flags)
  }

  private func copyRecord(_ from: SharedFD, _ to: SharedFD) throws {
    let name = bytes(".scrim-dir")
    let attribute = bytes("user.scrim.dir")
    let source = try Sys.openat(from.rawValue, name, .readOnly)
    let content = try readWhole(source.rawValue, limit: 10_000)
    let target = try Sys.openat(to.rawValue, name, [.writeOnly, .truncate])
    try content.withUnsafeBytes { try Sys.pwrite(target.rawValue, $0, at: 0) }
    if let value = try? Sys.getxattrPath(from.rawValue, attribute) {
      try Sys.setxattrPath(to.rawValue, attribute, value)
    }
  }

  @Test func aRecordOfAnotherDirectoryIsRejected() throws {
    let vault = try TestVault()
    try vault.root.makeDirectory("one").makeFile("inside", bytes("1"))
    try vault.root.makeDirectory("two").makeFile("inside", bytes("2"))
    let one = try vault.root.find("one").backingName
    let two = try vault.root.find("two").backingName
    try vault.reopen()
    try copyRecord(try vault.backing([one]), try vault.backing([two]))
    #expect(isRejected { try vault.root.directory("two") })
    #expect(try vault.root.directory("one").content("inside") == bytes("1"))
  }

  @Test func aMissingRecordIsNeverPlaintext() throws {
    for content in ContentPolicy.allCases {
      let vault = try TestVault(content: content)
      try vault.root.makeDirectory("d").makeFile("inside", bytes("1"))
      let name = try vault.root.find("d").backingName
      try vault.reopen()
      let backing = try vault.backing([name])
      try Sys.unlinkat(backing.rawValue, bytes(".scrim-dir"))
      // The attribute alone still serves.
      if (try? Sys.getxattrPath(backing.rawValue, bytes("user.scrim.dir"))) != nil {
        #expect(try vault.root.directory("d").content("inside") == bytes("1"))
        try vault.reopen()
        try Sys.removexattrPath(backing.rawValue, bytes("user.scrim.dir"))
      }
      #expect(isRejected { try vault.root.directory("d") })
    }
  }

  @Test func aRecordOfAnotherVaultIsRejected() throws {
    let vault = try TestVault()
    let other = try TestVault()
    try vault.root.makeDirectory("d")
    try other.root.makeDirectory("d")
    let name = try vault.root.find("d").backingName
    let otherName = try other.root.find("d").backingName
    try vault.reopen()
    try copyRecord(try other.backing([otherName]), try vault.backing([name]))
    #expect(isRejected { try vault.root.directory("d") })
    try copyRecord(try other.backing(), try vault.backing())
    try vault.vault.close()
    #expect(isRejected { try vault.reopen() })
  }

  @Test func swappedAndMovedDirectoriesAreRejected() throws {
    let vault = try TestVault()
    try vault.root.makeDirectory("one")
    try vault.root.makeDirectory("two").makeDirectory("inner")
    let one = try vault.root.find("one").backingName
    let two = try vault.root.find("two").backingName
    let inner = try vault.root.directory("two").find("inner").backingName
    try vault.reopen()
    try rename(vault, [], one, [], two, flags: .exchange)
    #expect(isRejected { try vault.root.directory("one") })
    #expect(isRejected { try vault.root.directory("two") })
    try rename(vault, [], one, [], two, flags: .exchange)
    try rename(vault, [two], inner, [], inner)
    // Under another directory's ID the name is none.
    #expect(try vault.root.list().count == 2)
    #expect(try vault.root.directory("two").list().isEmpty)
  }

  @Test func aPlantedPlaintextFileIsRefused() throws {
    let vault = try TestVault(content: .sealed, names: .plain)
    let planted = try vault.folder.makeFile("vault/tree/planted.txt", bytes("write here"))
    _ = consume planted
    #expect(isRejected { try vault.root.lookup(bytes("planted.txt")) })
    #expect(try vault.root.list().first?.problem != nil)
    #expect(isRejected { try vault.root.createFile(bytes("planted.txt"), mode: 0o600, owner: nil) })
    try Sys.symlinkat(target: bytes("/etc/passwd"), vault.tree, bytes("link"))
    let link = try vault.root.find("link")
    #expect(isRejected { try vault.root.readLink(link) })
  }

  @Test func aRawFileUnderASealedNameIsDamage() throws {
    let vault = try TestVault()
    let backing = try vault.root.makeFile("file", bytes("secret")).backingName
    let planted = try vault.folder.makeFile(
      "vault/tree/" + String(decoding: backing, as: UTF8.self), bytes("write here"))
    _ = consume planted
    try vault.reopen()
    let entry = try vault.root.find("file")
    #expect(entry.mode == .container)
    #expect(isRejected { try vault.root.openContainer(entry) })
  }

  @Test func kindsCannotBeTurnedIntoEachOther() throws {
    let vault = try TestVault(content: .plain, names: .sealed)
    let backing = try vault.root.makeFile("file", bytes("plain")).backingName
    #expect(backing.hasSuffix(bytes(".p")))
    let stem = Array(backing.dropLast(2))
    for suffix in ["", ".s", ".l"] {
      try rename(vault, [], backing, [], stem + bytes(suffix))
      #expect(try vault.root.lookup(bytes("file")) == nil)
      #expect(try vault.root.list().isEmpty)
      try rename(vault, [], stem + bytes(suffix), [], backing)
    }
    #expect(try vault.root.content("file") == bytes("plain"))
  }

  @Test func anEntryOfAnotherTypeIsRefused() throws {
    let vault = try TestVault()
    let backing = try vault.root.makeFile("file", bytes("x")).backingName
    let tree = vault.tree
    try Sys.unlinkat(tree, backing)
    try Sys.mknodat(tree, backing, mode: 0o010600)
    #expect(isRejected { try vault.root.lookup(bytes("file")) })
    try Sys.unlinkat(tree, backing)
    try Sys.mkdirat(tree, backing, mode: 0o700)
    #expect(isRejected { try vault.root.directory("file") })
  }

  @Test func swappedContainersAreRejected() throws {
    for names in NamePolicy.allCases {
      let vault = try TestVault(names: names)
      let one = try vault.root.makeFile("one", bytes("1")).backingName
      let two = try vault.root.makeFile("two", bytes("2")).backingName
      try vault.reopen()
      try rename(vault, [], one, [], two, flags: .exchange)
      for name in ["one", "two"] {
        let entry = try vault.root.find(name)
        #expect(isRejected { try vault.root.openContainer(entry) })
      }
    }
  }

  @Test func aContainerMovedToAnotherDirectoryIsRejected() throws {
    let vault = try TestVault(names: .plain)
    let name = try vault.root.makeFile("file", bytes("1")).backingName
    try vault.root.makeDirectory("d")
    try vault.reopen()
    try rename(vault, [], name, [bytes("d")], name)
    let directory = try vault.root.directory("d")
    let entry = try directory.find("file")
    #expect(isRejected { try directory.openContainer(entry) })
  }

  @Test func swappedSymbolicLinksAreRejected() throws {
    for names in NamePolicy.allCases {
      let vault = try TestVault(names: names)
      let one = try vault.root.makeSymbolicLink(bytes("one"), target: bytes("1"), owner: nil)
      let two = try vault.root.makeSymbolicLink(bytes("two"), target: bytes("2"), owner: nil)
      try rename(vault, [], one.backingName, [], two.backingName, flags: .exchange)
      for name in ["one", "two"] {
        let entry = try vault.root.find(name)
        #expect(isRejected { try vault.root.readLink(entry) })
      }
    }
  }

  @Test func aSecondCopyOfADirectoryIsRejected() throws {
    let vault = try TestVault(names: .plain)
    try vault.root.makeDirectory("one")
    let first = try vault.root.directory("one")
    try first.updateRecord {
      $0.bindings.append(vault.vault.context.keys.binding(of: bytes("two"), in: vault.root.id))
    }
    try Sys.mkdirat(vault.tree, bytes("two"), mode: 0o755)
    let made = try vault.folder.makeFile("vault/tree/two/.scrim-dir")
    _ = consume made
    try copyRecord(try vault.backing([bytes("one")]), try vault.backing([bytes("two")]))
    #expect(isRejected { try vault.root.directory("two") })
    withExtendedLifetime(first) {}
  }

  @Test func aRolledBackContainerIsNoticed() throws {
    let vault = try TestVault()
    let backing = try vault.root.makeFile("file", bytes("old")).backingName
    let path = "vault/tree/" + String(decoding: backing, as: UTF8.self)
    let old = try vault.folder.contents(path)
    let container = try vault.root.openContainer(try vault.root.find("file"))
    try bytes("new").withUnsafeBytes { try container.file.write(at: 0, from: $0) }
    try container.sync()
    let file = try Sys.openat(
      vault.folder.descriptor.rawValue, bytes(path), [.writeOnly, .truncate])
    let second = try TestVault()
    withExtendedLifetime(second) {}
    try old.withUnsafeBytes { try Sys.pwrite(file.rawValue, $0, at: 0) }
    // Only a new opening reads the file again.
    withExtendedLifetime(container) {}
    try vault.reopen()
    let entry = try vault.root.find("file")
    if (try? Sys.getxattrAt(
      vault.tree, backing, bytes("user.scrim.hint"),
      into: UnsafeMutableRawBufferPointer(start: nil, count: 0))) != nil
    {
      #expect(isRejected { try vault.root.openContainer(entry) })
    }
  }
}
