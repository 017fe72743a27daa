import Container
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// Each system call of each operation fails in turn.
@Suite struct CallFaultTests {
  struct Operation: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let act: @Sendable (Vault) throws -> Void

    init(_ name: String, _ act: @escaping @Sendable (Vault) throws -> Void) {
      testDescription = name
      self.act = act
    }
  }

  static let errors: [Errno] = [
    .ioError, .noSpace, .diskQuotaExceeded, .tooManyOpenFiles, .noMemory,
  ]

  /// What is there before each operation.
  private static func furnish(_ root: VaultDirectory) throws {
    try root.makeFile("file", filled(1))
    try root.makeFile("other", filled(2))
    try root.makeFile(long, filled(3))
    let directory = try root.makeDirectory("d")
    try directory.makeFile("inside", filled(4))
    _ = try directory.makeSymbolicLink(bytes("link"), target: bytes("elsewhere"), owner: nil)
    try root.makeDirectory("empty")
    _ = try root.makeSymbolicLink(bytes("link"), target: bytes("target"), owner: nil)
    let plain = try root.makeDirectory("p")
    try plain.setPolicy(content: .plain)
    try plain.makeFile("raw", filled(5))
  }

  private static func filled(_ number: UInt8) -> [UInt8] {
    (0..<6000).map { UInt8(truncatingIfNeeded: $0 &* 7) &+ number }
  }

  private static let long = [UInt8](repeating: 120, count: 200)

  static let operations = [
    Operation("create") { try create($0.root, bytes("new")) },
    Operation("create under a long name") {
      try create($0.root, [UInt8](repeating: 121, count: 210))
    },
    Operation("create a plain file") { try create($0.root.directory("p"), bytes("new")) },
    Operation("write and commit") {
      let container = try $0.root.openContainer(try $0.root.find("file"))
      try bytes("changed").withUnsafeBytes { try container.file.write(at: 5000, from: $0) }
      try container.commit()
    },
    Operation("truncate and sync") {
      let container = try $0.root.openContainer(try $0.root.find("file"))
      try container.file.truncate(to: 10)
      try container.sync()
    },
    Operation("rename") { try $0.root.rename(bytes("file"), to: $0.root, bytes("new")) },
    Operation("rename over") { try $0.root.rename(bytes("file"), to: $0.root, bytes("other")) },
    Operation("rename across") {
      try $0.root.rename(bytes("file"), to: $0.root.directory("d"), bytes("inside"))
    },
    Operation("rename from and to a long name") {
      try $0.root.rename(long, to: $0.root, [UInt8](repeating: 121, count: 210))
    },
    Operation("rename a link") {
      try $0.root.rename(bytes("link"), to: $0.root.directory("d"), bytes("moved"))
    },
    Operation("rename a link within a directory") {
      try $0.root.rename(bytes("link"), to: $0.root, long + bytes("moved"))
    },
    Operation("rename a link over another") {
      try $0.root.rename(bytes("link"), to: $0.root.directory("d"), bytes("link"))
    },
    Operation("rename a link over a file") {
      try $0.root.rename(bytes("link"), to: $0.root, bytes("file"))
    },
    Operation("list") { vault in
      for (name, count) in [("", 7), ("d", 2), ("empty", 0), ("p", 1)] {
        let directory = name.isEmpty ? vault.root : try vault.root.directory(name)
        // What cannot be read must not look like the end.
        guard try directory.list().count == count else { throw Wrong() }
      }
    },
    Operation("look up and read") {
      let directory = try $0.root.directory("d")
      guard try directory.lookup(bytes("inside")) != nil, try $0.root.lookup(long) != nil,
        try $0.root.lookup(bytes("none")) == nil,
        try $0.root.readLink($0.root.find("link")) == bytes("target"),
        try $0.root.content("file") == filled(1),
        try $0.root.directory("p").content("raw") == filled(5)
      else { throw Wrong() }
    },
    Operation("sync all") {
      try $0.root.makeDirectory("new")
      try $0.root.directory("new").sync()
      try $0.root.sync()
    },
    Operation("rename a directory") {
      try $0.root.rename(bytes("d"), to: $0.root.directory("p"), bytes("moved"))
    },
    Operation("rename a directory over another") {
      try $0.root.rename(bytes("d"), to: $0.root, bytes("empty"))
    },
    Operation("exchange files") {
      try $0.root.rename(
        bytes("file"), to: $0.root.directory("d"), bytes("inside"), flags: .exchange)
    },
    Operation("exchange a directory and a link") {
      try $0.root.rename(bytes("d"), to: $0.root, bytes("link"), flags: .exchange)
    },
    Operation("rename a plain file") {
      let plain = try $0.root.directory("p")
      try plain.rename(bytes("raw"), to: plain, bytes("raw2"))
    },
    Operation("link") {
      _ = try $0.root.link($0.root.find("file"), to: $0.root.directory("d"), as: bytes("second"))
    },
    Operation("unlink") { try $0.root.removeFile(bytes("file")) },
    Operation("unlink a long name") { try $0.root.removeFile(long) },
    Operation("mkdir") { try $0.root.makeDirectory("new") },
    Operation("rmdir") { try $0.root.removeDirectory(bytes("empty")) },
    Operation("symlink") {
      _ = try $0.root.makeSymbolicLink(bytes("new"), target: bytes("x"), owner: nil)
    },
    Operation("symlink with a long target") {
      _ = try $0.root.makeSymbolicLink(
        bytes("new"), target: [UInt8](repeating: 120, count: 4000), owner: nil)
    },
    Operation("mknod") {
      _ = try $0.root.makeNode(bytes("new"), mode: 0o010644, device: 0, owner: nil)
    },
    Operation("mark") { try $0.root.directory("d").setPolicy(content: .sealedCompressed) },
    Operation("mark a directory and its names") {
      try $0.root.directory("empty").setPolicy(content: .plain, names: .plain)
    },
    Operation("sync a directory") { try $0.root.directory("d").sync() },
    Operation("convert") {
      let directory = try $0.root.directory("d")
      let entry = try directory.find("inside")
      let replacement = try directory.beginReplacement(of: entry, policy: .sealedCompressed)
      do {
        let content = try directory.content("inside")
        try content.withUnsafeBytes { bytes in
          try replacement.container?.file.write(at: 0, from: bytes)
        }
        try directory.prepareReplacement(replacement)
        _ = try directory.finishReplacement(replacement)
      } catch {
        directory.cancelReplacement(replacement)
        throw error
      }
    },
    Operation("bring a file in") {
      let file = try $0.root.beginFile(bytes("new"))
      do {
        try bytes("brought").withUnsafeBytes { try file.container?.file.write(at: 0, from: $0) }
        try file.container?.sync()
        _ = try $0.root.finishFile(file)
      } catch {
        $0.root.cancelFile(file)
        throw error
      }
    },
    Operation("change the key") {
      try Vault.addSlot(
        at: $0.path, unlockedBy: testSecret,
        SlotRequest(secret: .keyFile(SecretBytes(copying: bytes("second")))))
    },
  ]

  /// An answer that is neither right nor an error.
  private struct Wrong: Error {}

  /// Creates a file as a program does that removes what it could not write.
  private static func create(_ directory: VaultDirectory, _ name: [UInt8]) throws {
    do {
      try directory.makeFile(name, bytes("content"))
    } catch {
      _ = try? directory.removeFile(name)
      throw error
    }
  }

  private static func number(of error: any Error) -> Errno? {
    switch error {
    case let error as VaultError: error.errno
    case ContainerError.io(let errno): errno
    default: error as? Errno
    }
  }

  private struct Scene {
    let vault: TestVault
    let before: [String: Found]

    init(_ names: NamePolicy) throws {
      vault = try TestVault(names: names)
      try CallFaultTests.furnish(vault.root)
      before = try CallFaultTests.state(vault)
    }
  }

  private static func state(_ vault: TestVault) throws -> [String: Found] {
    var problems: [String] = []
    let found = vault.root.everything(&problems)
    try #require(problems.isEmpty, "\(problems)")
    return found
  }

  /// Everything under a temporary name in the backing folder.
  private static func leftovers(_ folder: Int32) throws -> [String] {
    var found: [String] = []
    for entry in try Sys.entries(of: folder) {
      let name = String(decoding: entry.name, as: UTF8.self)
      if name.hasPrefix(".scrim-new.") || name.hasSuffix(".new") { found.append(name) }
      guard entry.kind == .directory else { continue }
      let inner = try Sys.openat(folder, entry.name, [.readOnly, .directory])
      found += try leftovers(inner.rawValue)
    }
    return found
  }

  @Test(arguments: operations, NamePolicy.allCases)
  func everyCallMayFail(_ operation: Operation, _ names: NamePolicy) throws {
    let plain = try Scene(names)
    let counter = CallFaults(failing: .max, with: .ioError)
    try watchingCalls(counter) { try operation.act(plain.vault.vault) }
    let after = try CallFaultTests.state(plain.vault)
    for call in 0..<counter.calls {
      // Each call with one of the errors, or in longer runs with each.
      let errors = CallFaultTests.errors
      for offset in 0..<min(errors.count, SeededRandom.rounds(1)) {
        try fail(call, errors[(call + offset) % errors.count], operation, names, after)
      }
    }
    print("faults, \(operation.testDescription), \(names) names: \(counter.calls) calls fail")
  }

  private func fail(
    _ call: Int, _ error: Errno, _ operation: Operation, _ names: NamePolicy,
    _ after: [String: Found]
  ) throws {
    let scene = try Scene(names)
    let faults = CallFaults(failing: call, with: error)
    var thrown: (any Error)?
    do {
      try watchingCalls(faults) { try operation.act(scene.vault.vault) }
    } catch {
      thrown = error
    }
    let what = "call \(call), \(faults.failed.map { "\($0)" } ?? "none"), \(error)"
    if let thrown { #expect(CallFaultTests.number(of: thrown) == error, "\(what): \(thrown)") }
    let state = try CallFaultTests.state(scene.vault)
    let isDone = state == after
    #expect(isDone || (thrown != nil && state == scene.before), "\(what): half done")
    let left = try CallFaultTests.leftovers(scene.vault.folder.descriptor.rawValue)
    // Tidying up after what was done may fail, too; a later session does it.
    #expect(left.isEmpty || (isDone && thrown == nil), "\(what): \(left)")
    if !isDone {
      #expect(throws: Never.self, "\(what): again") { try operation.act(scene.vault.vault) }
      let isSame = try CallFaultTests.state(scene.vault) == after
      #expect(isSame, "\(what): again")
    }
    try scene.vault.reopen()
    let isKept = try CallFaultTests.state(scene.vault) == after
    #expect(isKept, "\(what): after reopening")
  }
}
