import Container
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

@Suite struct AttributeTests {
  private let name = bytes("user.comment")

  private func check(_ attributes: Attributes) throws {
    #expect(errno { try attributes.get(name) } == Attributes.noData)
    #expect(try attributes.list().isEmpty)
    try attributes.set(name, bytes("value"))
    try attributes.set(bytes("user.empty"), [])
    #expect(try attributes.get(name) == bytes("value"))
    #expect(try attributes.get(bytes("user.empty")) == [])
    #expect(Set(try attributes.list()) == [name, bytes("user.empty")])
    #expect(errno { try attributes.set(name, [], mode: .createOnly) } == .fileExists)
    try attributes.remove(bytes("user.empty"))
    #expect(errno { try attributes.remove(bytes("user.empty")) } == Attributes.noData)
    for own in ["user.scrim.dir", "user.scrim.x.AAAA", "user.scrim.hint"] {
      #expect(errno { try attributes.get(bytes(own)) } == Attributes.noData)
      #expect(errno { try attributes.set(bytes(own), []) } == .notSupported)
    }
  }

  private func stored(_ vault: TestVault, _ entry: VaultEntry) throws -> [[UInt8]] {
    let node = try vault.root.openNode(entry)
    return try Sys.listxattrPath(node.rawValue).split(separator: 0).map { [UInt8]($0) }
  }

  @Test func attributesOfContainersAndDirectoriesAreSealed() throws {
    let vault = try TestVault()
    let file = try vault.root.makeFile("f", bytes("x"))
    let directory = try vault.root.makeDirectory("d")
    try check(try vault.root.attributes(of: file))
    try check(try directory.attributes())
    for entry in [file, try vault.root.find("d")] {
      let names = try stored(vault, entry)
      #expect(!names.contains(name))
      #expect(names.contains { $0.starts(with: bytes("user.scrim.x.")) })
    }
    try vault.reopen()
    #expect(
      try vault.root.attributes(of: try vault.root.find("f")).get(name) == bytes("value"))
    #expect(try vault.root.directory("d").attributes().get(name) == bytes("value"))
  }

  @Test func attributesOfPlainFilesAreAsTheyAre() throws {
    let vault = try TestVault(content: .plain, names: .plain)
    let file = try vault.root.makeFile("f", bytes("x"))
    try check(try vault.root.attributes(of: file))
    #expect(try stored(vault, file).contains(name))
    let directory = try vault.root.makeDirectory("d")
    try check(try directory.attributes())
    #expect(try stored(vault, try vault.root.find("d")).contains(name))
  }

  @Test func aNewContainersAttributesSurviveItsFirstCommit() throws {
    let vault = try TestVault()
    let file = try vault.root.createFile(bytes("f"), mode: 0o644, owner: nil)
    let container = try #require(file.container)
    try container.attributes.set(name, bytes("early"))
    try bytes("content").withUnsafeBytes { try container.file.write(at: 0, from: $0) }
    try container.commit()
    try vault.reopen()
    #expect(
      try vault.root.attributes(of: try vault.root.find("f")).get(name) == bytes("early"))
  }

  @Test func movedAndForgedAttributesAreRejectedAndForeignOnesIgnored() throws {
    let vault = try TestVault()
    let one = try vault.root.makeFile("one", bytes("1"))
    let two = try vault.root.makeFile("two", bytes("2"))
    try vault.root.attributes(of: one).set(name, bytes("value"))
    let stored = try #require(
      try stored(vault, one).first { $0.starts(with: bytes("user.scrim.x.")) })
    let source = try vault.root.openNode(one)
    let target = try vault.root.openNode(two)
    let value = try Sys.getxattrPath(source.rawValue, stored)
    try Sys.setxattrPath(target.rawValue, stored, value)
    #expect(isRejected { try vault.root.attributes(of: two).get(name) })
    var changed = value
    changed[20] ^= 1
    try Sys.setxattrPath(source.rawValue, stored, changed)
    #expect(isRejected { try vault.root.attributes(of: one).get(name) })
    try Sys.setxattrPath(source.rawValue, bytes("user.foreign"), bytes("x"))
    #expect(try vault.root.attributes(of: one).list() == [name])
    #expect(
      errno { try vault.root.attributes(of: one).get(bytes("user.foreign")) }
        == Attributes.noData)
  }

  @Test func aPolicyChangeTakesTheDirectorysAttributesAlong() throws {
    let vault = try TestVault(content: .plain, names: .plain)
    let directory = try vault.root.makeDirectory("d")
    try directory.attributes().set(name, bytes("value"))
    try directory.setPolicy(content: .sealed)
    #expect(try directory.attributes().get(name) == bytes("value"))
    #expect(try !stored(vault, try vault.root.find("d")).contains(name))
    try directory.setPolicy(content: .plain)
    #expect(try directory.attributes().get(name) == bytes("value"))
    #expect(try stored(vault, try vault.root.find("d")).contains(name))
  }
}
