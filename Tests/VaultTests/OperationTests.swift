import Container
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// What single operations promise beyond what the model looks at.
@Suite struct OperationTests {
  private func isCrossPolicy<R>(_ call: () throws -> R) -> Bool {
    do {
      _ = try call()
      return false
    } catch let error as VaultError {
      if case .crossPolicy = error { return true } else { return false }
    } catch {
      return false
    }
  }

  @Test func filesDoNotCrossIntoDirectoriesThatWouldStoreThemOtherwise() throws {
    let vault = try TestVault()
    try vault.root.makeFile("f", bytes("1"))
    let plain = try vault.root.makeDirectory("plain")
    try plain.setPolicy(content: .plain)
    try plain.makeFile("p", bytes("2"))
    #expect(isCrossPolicy { try vault.root.rename(bytes("f"), to: plain, bytes("f")) })
    #expect(isCrossPolicy { try plain.rename(bytes("p"), to: vault.root, bytes("p")) })
    let entry = try plain.find("p")
    #expect(isCrossPolicy { try plain.link(entry, to: vault.root, as: bytes("p")) })
    // A rule that would store it in its own mode lets it in.
    try vault.root.setPolicy(rules: [
      try #require(ContentRule(pattern: bytes("*.raw"), policy: .plain))
    ])
    try plain.rename(bytes("p"), to: vault.root, bytes("p.raw"))
    #expect(try vault.root.content("p.raw") == bytes("2"))
    // Within its directory a file may have any name.
    try vault.root.rename(bytes("p.raw"), to: vault.root, bytes("p.txt"))
    try vault.root.rename(bytes("f"), to: vault.root, bytes("f.raw"))
    #expect(try vault.root.content("p.txt") == bytes("2"))
    #expect(try vault.root.content("f.raw") == bytes("1"))
  }

  @Test func rulesDecideAtCreation() throws {
    let vault = try TestVault()
    try vault.root.setPolicy(rules: [
      try #require(ContentRule(pattern: bytes("*.mp4"), policy: .plain)),
      try #require(ContentRule(pattern: bytes("*.log"), policy: .compressed)),
    ])
    let video = try vault.root.makeFile("a.mp4", bytes("v"))
    let log = try vault.root.makeFile("a.log", bytes("l"))
    let other = try vault.root.makeFile("a.txt", bytes("t"))
    #expect(video.mode == .plain)
    #expect(try vault.root.openContainer(log).file.policy == .compressed)
    #expect(try vault.root.openContainer(other).file.policy == .sealed)
    let child = try vault.root.makeDirectory("child")
    #expect(try child.makeFile("b.mp4").mode == .plain)
  }

  @Test func policyChangesKeepOldFilesReadableAndPlantedOnesRefused() throws {
    let vault = try TestVault(content: .plain, names: .plain)
    let directory = try vault.root.makeDirectory("d")
    try directory.makeFile("old", bytes("old"))
    try directory.setPolicy(content: .sealed)
    #expect(directory.record.flags == .plainFiles)
    try directory.makeFile("new", bytes("new"))
    try vault.reopen()
    let again = try vault.root.directory("d")
    #expect(try again.content("old") == bytes("old"))
    #expect(try again.find("new").mode == .container)
    #expect(errno { try again.setPolicy(names: .sealed) } == .directoryNotEmpty)
    // Once the last one is gone nobody can plant another.
    try again.removeFile(bytes("old"))
    try again.refreshPresence()
    let planted = try vault.folder.makeFile("vault/tree/d/old", bytes("planted"))
    _ = consume planted
    #expect(isRejected { try again.lookup(bytes("old")) })
    try again.refreshPresence()
    #expect(isRejected { try again.lookup(bytes("old")) })
    try again.setPolicy(content: .compressed)
    #expect(isRejected { try again.lookup(bytes("old")) })
  }

  @Test func anEmptyDirectoryMayChangeItsNames() throws {
    let vault = try TestVault()
    let directory = try vault.root.makeDirectory("d")
    try directory.setPolicy(content: .plain, names: .plain)
    try directory.makeFile("visible", bytes("1"))
    let backing = try vault.backing([try vault.root.find("d").backingName])
    #expect(try Sys.entries(of: backing.rawValue).contains { $0.name == bytes("visible") })
  }

  @Test func renamingAnUncommittedFileOverAnotherMakesItDurable() throws {
    let vault = try TestVault()
    try vault.root.makeFile("target", bytes("old"))
    let created = try vault.root.createFile(bytes("temporary"), mode: 0o644, owner: nil)
    let container = try #require(created.container)
    try bytes("new").withUnsafeBytes { try container.file.write(at: 0, from: $0) }
    try vault.root.rename(bytes("temporary"), to: vault.root, bytes("target"))
    #expect(container.file.known.durable == container.file.known.last)
    #expect(!container.file.isDirty || container.file.bindings.count == 1)
    #expect(try vault.root.content("target") == bytes("new"))
  }

  @Test func renamesKeepTimesAndAnOpenContainer() throws {
    let vault = try TestVault()
    let entry = try vault.root.makeFile("f", bytes("1"))
    let old = TimeSpec(seconds: 1_000_000, nanoseconds: 5)
    let node = try vault.root.openNode(entry)
    try Sys.futimens(node.rawValue, access: .omit, modification: .set(old))
    let open = try vault.root.openContainer(entry)
    let directory = try vault.root.makeDirectory("d")
    for name in ["g", "h", "i"] {
      try vault.root.rename(
        bytes(name == "g" ? "f" : name == "h" ? "g" : "h"), to: vault.root, bytes(name))
    }
    let moved = try vault.root.rename(bytes("i"), to: directory, bytes("f")).moved
    #expect(moved.status.mtime == old)
    #expect(try directory.openContainer(moved) === open)
    try open.commit()
    #expect(open.file.bindings.count <= 2)
    try vault.reopen()
    #expect(try vault.root.directory("d").content("f") == bytes("1"))
  }

  @Test func whatWasRenamedMeanwhileIsStaleAndNotDamaged() throws {
    let vault = try TestVault()
    let entry = try vault.root.makeFile("f", bytes("1"))
    let open = try vault.root.openContainer(entry)
    try vault.root.rename(bytes("f"), to: vault.root, bytes("g"))
    #expect(errno { try vault.root.openContainer(entry) } == .staleNFSFileHandle)
    withExtendedLifetime(open) {}
    #expect(errno { try vault.root.openPlain(entry, .readOnly) } == .invalidArgument)
    try vault.root.makeDirectory("d")
    let directory = try vault.root.find("d")
    try vault.root.rename(bytes("d"), to: vault.root, bytes("e"))
    #expect(!isRejected { try vault.root.openDirectory(directory) })
    #expect(errno { try vault.root.openNode(entry) } == .staleNFSFileHandle)
  }

  @Test func hardLinksShareOneContainerAndOutgrowTheirBindings() throws {
    let vault = try TestVault()
    try vault.root.makeFile("0", bytes("shared"))
    let directory = try vault.root.makeDirectory("d")
    for index in 1...20 {
      let entry = try vault.root.find("0")
      let target = index.isMultiple(of: 2) ? directory : vault.root
      let linked = try vault.root.link(entry, to: target, as: bytes("\(index)"))
      #expect(linked.status.links == UInt32(index + 1))
    }
    #expect(
      try vault.root.openContainer(try vault.root.find("0"))
        === directory.openContainer(try directory.find("2")))
    try vault.reopen()
    let again = try vault.root.directory("d")
    for index in 0...20 {
      let place = index > 0 && index.isMultiple(of: 2) ? again : vault.root
      #expect(try place.content("\(index)") == bytes("shared"))
    }
    #expect(try vault.root.openContainer(try vault.root.find("0")).file.bindingsOverflow)
  }

  @Test func temporaryFilesGetTheirNameLater() throws {
    for content in [ContentPolicy.sealed, .plain] {
      let vault = try TestVault(content: content)
      let file = try vault.root.createTemporary(mode: 0o600, owner: nil)
      if let container = file.container {
        try bytes("x").withUnsafeBytes { try container.file.write(at: 0, from: $0) }
      } else {
        try bytes("x").withUnsafeBytes { try Sys.pwrite(file.descriptor.rawValue, $0, at: 0) }
      }
      #expect(try vault.root.list().isEmpty)
      let entry = try vault.root.linkTemporary(file, as: bytes("named"))
      #expect(entry.status.links == 1)
      #expect(errno { try vault.root.linkTemporary(file, as: bytes("named")) } == .fileExists)
      try vault.reopen()
      #expect(try vault.root.content("named") == bytes("x"))
    }
  }

  @Test func symbolicLinksKeepTheirTimesAcrossRenames() throws {
    let vault = try TestVault()
    let link = try vault.root.makeSymbolicLink(bytes("l"), target: bytes("there"), owner: nil)
    let old = TimeSpec(seconds: 1_000_000, nanoseconds: 5)
    try Sys.utimensat(vault.tree, link.backingName, access: .omit, modification: .set(old))
    let moved = try vault.root.rename(bytes("l"), to: vault.root, bytes("m")).moved
    #expect(moved.status.mtime == old)
    #expect(try vault.root.readLink(moved) == bytes("there"))
    let copy = try vault.root.link(moved, to: vault.root, as: bytes("copy"))
    #expect(try vault.root.readLink(copy) == bytes("there"))
  }

  @Test func directoriesWithLeftoversAreRemovedWhole() throws {
    for names in NamePolicy.allCases {
      let vault = try TestVault(names: names)
      let directory = try vault.root.makeDirectory("d")
      let long = [UInt8](repeating: 67, count: 255)
      try directory.makeFile(long)
      #expect(errno { try vault.root.removeDirectory(bytes("d")) } == .directoryNotEmpty)
      try directory.removeFile(long)
      let backing = try vault.backing([try vault.root.find("d").backingName])
      try Sys.mkdirat(backing.rawValue, bytes(".scrim-new.left"), mode: 0o755)
      let left = try Sys.openat(
        backing.rawValue, bytes(".scrim-new.file"), [.writeOnly, .create], mode: 0o600)
      _ = consume left
      try vault.root.removeDirectory(bytes("d"))
      #expect(try Sys.entries(of: vault.tree).map(\.name) == [bytes(".scrim-dir")])
      #expect(errno { try directory.makeFile("late") } == .noSuchFileOrDirectory)
    }
  }

  @Test func sizesComeFromHintsWithoutOpening() throws {
    let vault = try TestVault()
    try vault.root.makeFile("f", [UInt8](repeating: 1, count: 3000))
    try vault.reopen()
    let entry = try vault.root.find("f")
    let hinted = try? Sys.getxattrAt(
      vault.tree, entry.backingName, bytes("user.scrim.hint"),
      into: UnsafeMutableRawBufferPointer(start: nil, count: 0))
    guard hinted != nil else { return }
    // Damaged where only opening would look.
    let file = try Sys.openat(vault.tree, entry.backingName, .writeOnly)
    try [UInt8](repeating: 0xAA, count: 64).withUnsafeBytes {
      try Sys.pwrite(file.rawValue, $0, at: 48)
    }
    #expect(try vault.root.plainSize(try vault.root.find("f")) == 3000)
    #expect(isRejected { try vault.root.openContainer(try vault.root.find("f")) })
  }

  @Test func aSyncLeavesNoHintThatTellsAWrongSize() throws {
    let vault = try TestVault()
    try vault.root.makeFile("f", [UInt8](repeating: 1, count: 3000))
    let name = try vault.root.find("f").backingName
    func hint() -> [UInt8]? {
      try? Sys.fgetxattr(
        try Sys.openat(vault.tree, name, .readOnly).rawValue, bytes("user.scrim.hint"))
    }
    guard let first = hint() else { return }
    let container = try vault.root.openContainer(try vault.root.find("f"))
    func write(_ count: Int, at offset: UInt64) throws {
      try [UInt8](repeating: 2, count: count).withUnsafeBytes {
        try container.file.write(at: offset, from: $0)
      }
      try container.sync(hint: .later)
    }
    try write(100, at: 0)
    #expect(hint() == first && container.isDirty)
    try write(100, at: 3000)
    #expect(hint() == nil && container.isDirty)
    try write(100, at: 3100)
    #expect(hint() == nil)
    try container.commit()
    #expect(hint() != nil && !container.isDirty)
    #expect(try vault.root.plainSize(try vault.root.find("f")) == 3200)
  }

  @Test func convertedFilesKeepWhatTheyHad() throws {
    let vault = try TestVault()
    let entry = try vault.root.makeFile("f", bytes("content"))
    try vault.root.attributes(of: entry).set(bytes("user.note"), bytes("mine"))
    let original = try vault.root.find("f")
    for (policy, mode) in [(ContentPolicy.plain, InodeMode.plain), (.compressed, .container)] {
      let replacement = try vault.root.beginReplacement(
        of: try vault.root.find("f"), policy: policy)
      if let container = replacement.container {
        try bytes("content").withUnsafeBytes { try container.file.write(at: 0, from: $0) }
      } else {
        try bytes("content").withUnsafeBytes {
          try Sys.pwrite(replacement.descriptor.rawValue, $0, at: 0)
        }
      }
      try vault.root.prepareReplacement(replacement)
      let converted = try vault.root.finishReplacement(replacement)
      #expect(converted.mode == mode)
      #expect(converted.status.mtime == original.status.mtime)
      #expect(converted.status.mode == original.status.mode)
      #expect(try vault.root.content("f") == bytes("content"))
      let attributes = try vault.root.attributes(of: converted)
      #expect(try attributes.get(bytes("user.note")) == bytes("mine"))
    }
    let given = try vault.root.beginReplacement(of: try vault.root.find("f"), policy: .plain)
    vault.root.cancelReplacement(given)
    try vault.root.refreshPresence()
    #expect(vault.root.record.flags == [.containers] || vault.root.record.flags.isEmpty)
    #expect(try Sys.entries(of: vault.tree).count == 2)
  }

  @Test func aForeignDirectoryAmongPlainFilesCanBeAdopted() throws {
    let vault = try TestVault(content: .plain, names: .plain)
    try Sys.mkdirat(vault.tree, bytes("foreign"), mode: 0o755)
    #expect(isRejected { try vault.root.directory("foreign") })
    let adopted = try vault.root.adoptDirectory(try vault.root.find("foreign"))
    try adopted.makeFile("f", bytes("1"))
    try vault.reopen()
    #expect(try vault.root.directory("foreign").content("f") == bytes("1"))
  }
}
