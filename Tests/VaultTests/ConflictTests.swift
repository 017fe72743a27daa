import Container
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// What tools that synchronise folders leave behind (format §11).
@Suite struct ConflictTests {
  private let addition = ".sync-conflict-20240101-120000-ABCDEFG"

  private func copy(_ vault: TestVault, _ from: [UInt8], _ to: [UInt8]) throws {
    let source = try Sys.openat(vault.tree, from, .readOnly)
    let content = try readWhole(source.rawValue, limit: 1 << 20)
    let target = try Sys.openat(vault.tree, to, [.writeOnly, .create], mode: 0o644)
    try content.withUnsafeBytes { try Sys.pwrite(target.rawValue, $0, at: 0) }
  }

  @Test(arguments: ModelTests.Policies.all) func conflictCopiesAreShownReadAndRenamed(
    _ policies: ModelTests.Policies
  ) throws {
    let vault = try TestVault(content: policies.content, names: policies.names)
    let backing = try vault.root.makeFile("note.txt", bytes("1")).backingName
    let suffix = [".p", ".scrim-c"].map(bytes).first { backing.hasSuffix($0) } ?? []
    let stem = Array(backing.dropLast(suffix.count))
    try copy(vault, backing, stem + bytes(addition) + suffix)
    try vault.reopen()
    let names = Set(try vault.root.list().map(\.name))
    #expect(names.count == 2)
    let shown = try #require(names.first { $0 != bytes("note.txt") })
    if policies.names == .sealed { #expect(shown == bytes("note\(addition).txt")) }
    #expect(try vault.root.content(shown) == bytes("1"))
    try vault.root.rename(shown, to: vault.root, bytes("mine.txt"))
    #expect(try vault.root.content("mine.txt") == bytes("1"))
    try vault.reopen()
    #expect(try vault.root.content("mine.txt") == bytes("1"))
    #expect(try vault.root.content("note.txt") == bytes("1"))
  }

  @Test func namesUnderAnAlternateRecordAreNotLost() throws {
    let vault = try TestVault()
    let context = vault.vault.context
    try vault.root.makeFile("here", bytes("1"))
    // The other side made the same directory under an ID of its own, and lost.
    var other = vault.root.record
    other.id = .random()
    let coder = NameCoder(keys: context.keys, id: other.id, policy: .sealed)
    let there = try coder.encode(bytes("there"), kind: .primary).name
    let descriptor = SharedFD(
      try Sys.openat(vault.tree, there, [.readWrite, .create], mode: 0o644))
    let container = try vault.root.newContainer(
      descriptor, try Sys.fstatx(descriptor.rawValue, fields: .entry), .sealed,
      [context.keys.binding(of: bytes("there"), in: other.id)])
    try container.commit()
    for name in [".scrim-dir" + addition, addition + ".scrim-dir"] {
      let record = try vault.folder.makeFile(
        "vault/tree/" + name, try other.sealed(with: context.keys))
      _ = consume record
      try vault.reopen()
      #expect(Set(try vault.root.list().map(\.name)) == [bytes("here"), bytes("there")])
      #expect(try vault.root.content("there") == [])
      #expect(try vault.root.content("here") == bytes("1"))
      #expect(errno { try vault.root.makeFile("there") } == .fileExists)
      try Sys.unlinkat(vault.tree, bytes(name))
    }
    let planted = try vault.folder.makeFile("vault/tree/.scrim-dir" + addition, bytes("junk"))
    _ = consume planted
    try vault.reopen()
    #expect(try vault.root.list().map(\.name) == [bytes("here")])
  }

  @Test func ofTwoStatesOfOneRecordTheStricterPolicyHolds() throws {
    let vault = try TestVault(content: .plain)
    var other = vault.root.record
    other.content = .sealed
    other.serial += 1
    let record = try vault.folder.makeFile(
      "vault/tree/.scrim-dir" + addition, try other.sealed(with: vault.vault.context.keys))
    _ = consume record
    try vault.reopen()
    #expect(try vault.root.makeFile("f").mode == .container)
    // The owner decides again, and the copy no longer counts.
    try vault.root.setPolicy(content: .plain)
    #expect(try vault.root.makeFile("g").mode == .plain)
    try vault.reopen()
    #expect(try vault.root.makeFile("h").mode == .plain)
    #expect(try vault.root.content("f") == [])
  }

  @Test func aRecordOnlyAToolsCopyHasLeftStillOpensTheDirectory() throws {
    let vault = try TestVault()
    try vault.root.makeFile("f", bytes("1"))
    try Sys.renameat2(
      vault.tree, bytes(".scrim-dir"), vault.tree, bytes(".scrim-dir" + addition))
    try? Sys.removexattrPath(vault.tree, bytes("user.scrim.dir"))
    try vault.reopen()
    #expect(try vault.root.content("f") == bytes("1"))
  }
}
