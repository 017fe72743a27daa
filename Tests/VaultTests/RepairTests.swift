import Container
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// What `check` finds after crashes and what its repairs leave.
@Suite struct RepairTests {
  /// Checks a closed vault.
  private func check(_ vault: TestVault, repairing: Bool = false) throws -> [CheckFinding] {
    let options = CheckOptions(isDeep: true, repairs: repairing, lostAndFound: "lost+found")
    let checked = try Vault.openForCheck(
      at: vault.path, secret: testSecret, options: options, logger: .silent)
    var findings = checked.findings
    let checker = try #require(
      Checker(checked, options: options) {
        findings.append($0)
      } advance: { _ in
      })
    try checker.run()
    try checked.vault?.close()
    return findings
  }

  private func lostAndFound(_ vault: TestVault) throws -> [String] {
    let folder = try Sys.openat(
      vault.folder.descriptor.rawValue, bytes("vault/lost+found"), [.readOnly, .directory])
    return try Sys.entries(of: folder.rawValue).flatMap { entry in
      let inner = try Sys.openat(folder.rawValue, entry.name, [.readOnly, .directory])
      return try Sys.entries(of: inner.rawValue).map { String(decoding: $0.name, as: UTF8.self) }
    }
  }

  @Test func aTornHeaderFallsBackAndIsCommittedAnew() throws {
    let vault = try TestVault()
    let entry = try vault.root.makeFile("file", bytes("first"))
    for content in ["first", "secnd", "third"] {
      let container = try vault.root.openContainer(entry)
      try bytes(content).withUnsafeBytes { try container.file.write(at: 0, from: $0) }
      try container.sync()
    }
    try vault.closeAsAfterACrash {
      let file = try Sys.openat(vault.tree, entry.backingName, .readWrite)
      // Commits 1 and 3 went to the first slot; half of the third arrived.
      let zeros = [UInt8](repeating: 0, count: 2048)
      try zeros.withUnsafeBytes { try Sys.pwrite(file.rawValue, $0, at: 2048) }
    }
    let found = try check(vault)
    #expect(found.map(\.severity) == [.harmless], "\(found)")
    #expect(found.first?.reason.contains("a crash cut its last commit short") == true)
    let repaired = try check(vault, repairing: true)
    #expect(repaired.count == 1)
    if case .repaired = repaired.first?.outcome {} else { Issue.record("\(repaired)") }
    #expect(try check(vault).isEmpty)
    try vault.open()
    #expect(try vault.root.content("file") == bytes("secnd"))
  }

  @Test func aSecondBindingIsDropped() throws {
    let vault = try TestVault()
    try vault.root.makeFile("file", bytes("content"))
    try vault.root.rename(bytes("file"), to: vault.root, bytes("renamed"))
    try vault.vault.close()
    let found = try check(vault)
    #expect(found.map(\.severity) == [.note], "\(found)")
    _ = try check(vault, repairing: true)
    #expect(try check(vault).isEmpty)
    try vault.open()
    #expect(try vault.root.content("renamed") == bytes("content"))
  }

  @Test func aFirstCommitThatCouldComeBackIsCovered() throws {
    let vault = try TestVault()
    try vault.root.makeFile("file", bytes("first"))
    try vault.vault.close()
    try vault.open()
    do {
      let container = try vault.root.openContainer(try vault.root.find("file"))
      try bytes("secnd").withUnsafeBytes { try container.file.write(at: 0, from: $0) }
      try container.sync()
    }
    try vault.vault.close()
    let found = try check(vault)
    #expect(found.map(\.severity) == [.note], "\(found)")
    _ = try check(vault, repairing: true)
    #expect(try check(vault).isEmpty)
    try vault.open()
    #expect(try vault.root.content("file") == bytes("secnd"))
  }

  @Test func aHiddenDuplicateIsMovedAside() throws {
    let vault = try TestVault(names: .plain)
    try vault.root.makeFile("file", bytes("sealed"))
    try vault.root.setPolicy(content: .plain)
    let planted = try Sys.openat(vault.tree, bytes("file"), [.writeOnly, .create], mode: 0o644)
    try bytes("plain").withUnsafeBytes { try Sys.pwrite(planted.rawValue, $0, at: 0) }
    try vault.vault.close()
    let found = try check(vault)
    #expect(found.map(\.severity) == [.harmless], "\(found)")
    #expect(found.first?.reason.contains("hidden by another entry") == true)
    _ = try check(vault, repairing: true)
    #expect(try check(vault).isEmpty)
    #expect(try lostAndFound(vault) == ["file.scrim-c"])
    try vault.open()
    #expect(try vault.root.content("file") == bytes("plain"))
  }

  /// Swapping two links takes three steps; a crash after any of them loses neither.
  @Test(arguments: [0, 1]) func anInterruptedExchangeOfLinksIsFinished(_ done: Int) throws {
    let vault = try TestVault()
    let links = try ["one", "two"].map { name in
      try vault.root.makeSymbolicLink(bytes(name), target: bytes("to " + name), owner: nil)
    }
    let copies = try [1, 0].map { other in
      try vault.root.copyLink(
        links[1 - other], to: vault.root, as: links[other].name, vault.tree, vault.tree)
    }
    try Sys.renameat2(
      vault.tree, links[0].backingName, vault.tree, links[1].backingName, flags: .exchange)
    if done == 1 {
      try Sys.renameat2(vault.tree, copies[0].temporary, vault.tree, links[1].backingName)
    }
    try vault.crash()
    let root = vault.root
    #expect(try root.readLink(root.find("one")) == bytes("to two"))
    #expect(try root.readLink(root.find("two")) == bytes("to one"))
    let listing = try root.reopened()
    #expect(try Sys.entries(of: listing.rawValue).count == 3)
  }
}
