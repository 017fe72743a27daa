import Container
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// Directory operations against a model in memory, for every pair of policies, with reopening.
@Suite struct ModelTests {
  struct Policies: Sendable, CustomTestStringConvertible {
    var content: ContentPolicy
    var names: NamePolicy
    var testDescription: String { "\(content.name), \(names.name) names" }

    static let all = ContentPolicy.allCases.flatMap { content in
      NamePolicy.allCases.map { Policies(content: content, names: $0) }
    }
  }

  @Test(arguments: Policies.all) func operationsAgreeWithTheModel(_ policies: Policies) throws {
    let vault = try TestVault(content: policies.content, names: policies.names)
    var run = ModelRun(
      vault: vault, content: policies.content,
      random: SeededRandom(for: policies.testDescription))
    for round in 0..<SeededRandom.rounds(3) {
      for _ in 0..<120 { try run.step() }
      try run.compare()
      try vault.reopen(round % 2 == 0 ? .readWrite : .readOnly)
      try run.compare()
      try vault.reopen()
    }
  }
}

/// What should be in the vault.
private final class Node {
  enum Content {
    case file([UInt8], ContentPolicy)
    case link([UInt8])
    case special
    case directory([[UInt8]: Node], ContentPolicy)
  }

  var content: Content

  init(_ content: Content) { self.content = content }

  var entries: [[UInt8]: Node]? {
    if case .directory(let entries, _) = content { entries } else { nil }
  }

  var policy: ContentPolicy {
    switch content {
    case .file(_, let policy), .directory(_, let policy): policy
    case .link, .special: .plain
    }
  }

  func set(_ name: [UInt8], _ node: Node?) {
    guard case .directory(var entries, let policy) = content else { return }
    entries[name] = node
    content = .directory(entries, policy)
  }

  func contains(_ other: Node) -> Bool {
    self === other || (entries?.values.contains { $0.contains(other) } ?? false)
  }
}

private struct ModelRun {
  let vault: TestVault
  let root: Node
  var random: SeededRandom

  static let names: [[UInt8]] = [
    bytes("a"), bytes("b"), bytes("c"), bytes("file.txt"), bytes(".scrim-dir"),
    bytes("x.scrim-c"), bytes("x"), [0xFF, 0xFE, 0x01], [UInt8](repeating: 90, count: 160),
    [UInt8](repeating: 91, count: 161), [UInt8](repeating: 92, count: 255),
  ]

  init(vault: TestVault, content: ContentPolicy, random: SeededRandom) {
    self.vault = vault
    self.random = random
    root = Node(.directory([:], content))
  }

  private mutating func pick<T>(_ values: [T]) -> T {
    values[Int.random(in: 0..<values.count, using: &random)]
  }

  /// A directory of the model and the vault.
  private mutating func place() throws -> (Node, VaultDirectory) {
    var node = root
    var directory = vault.root
    while let entries = node.entries, Int.random(in: 0..<3, using: &random) > 0 {
      let children = entries.filter { $0.value.entries != nil }.map(\.key)
        .sorted { $0.lexicographicallyPrecedes($1) }
      if children.isEmpty { break }
      let name = pick(children)
      guard let child = entries[name] else { break }
      node = child
      directory = try directory.openDirectory(named: name)
    }
    return (node, directory)
  }

  /// Runs a change in the vault; whether it succeeds must be what the model says.
  private func check(
    _ expected: Bool, _ what: String, _ call: () throws -> Void
  ) -> Bool {
    do {
      try call()
      #expect(expected, "\(what) succeeded")
      return true
    } catch {
      #expect(!expected, "\(what): \(error)")
      return false
    }
  }

  mutating func step() throws {
    let (node, directory) = try place()
    let name = pick(ModelRun.names)
    let present = node.entries?[name]
    switch Int.random(in: 0..<20, using: &random) {
    case 0..<5:
      let content = (0..<Int.random(in: 0..<6000, using: &random)).map { UInt8($0 & 255) }
      if check(present == nil, "create", { try directory.makeFile(name, content) }) {
        node.set(name, Node(.file(content, node.policy)))
      }
    case 5..<7:
      let made = check(present == nil, "mkdir") {
        _ = try directory.makeDirectory(name, mode: 0o755, owner: nil)
      }
      if made { node.set(name, Node(.directory([:], node.policy))) }
    case 7:
      let length = pick([1, 40, 3000, 4000])
      let target = [UInt8](repeating: 116, count: length)
      let made = check(present == nil, "symlink") {
        _ = try directory.makeSymbolicLink(name, target: target, owner: nil)
      }
      if made { node.set(name, Node(.link(target))) }
    case 8:
      let made = check(present == nil, "mknod") {
        _ = try directory.makeNode(name, mode: 0o010644, device: 0, owner: nil)
      }
      if made { node.set(name, Node(.special)) }
    case 9..<11:
      let expected = present != nil && present?.entries == nil
      if check(expected, "unlink", { try directory.removeFile(name) }) { node.set(name, nil) }
    case 11:
      let expected = present?.entries?.isEmpty ?? false
      if check(expected, "rmdir", { try directory.removeDirectory(name) }) {
        node.set(name, nil)
      }
    case 12: try changePolicy(node, directory)
    case 13: try link(node, directory, name)
    default: try rename(node, directory, name)
    }
  }

  private mutating func changePolicy(_ node: Node, _ directory: VaultDirectory) throws {
    guard let entries = node.entries, directory !== vault.root else { return }
    let policy = pick(ContentPolicy.allCases)
    try directory.setPolicy(content: policy)
    node.content = .directory(entries, policy)
  }

  private mutating func link(_ node: Node, _ directory: VaultDirectory, _ name: [UInt8]) throws {
    guard let source = node.entries?[name], let entry = try directory.lookup(name) else { return }
    let (target, targetDirectory) = try place()
    let newName = pick(ModelRun.names)
    let fits = target === node || isMovable(source, target)
    let expected = source.entries == nil && target.entries?[newName] == nil && fits
    let made = check(expected, "link") {
      _ = try directory.link(entry, to: targetDirectory, as: newName)
    }
    if made { target.set(newName, source) }
  }

  /// Whether a file may get a name in another directory.
  private func isMovable(_ node: Node, _ target: Node) -> Bool {
    if case .file(_, let policy) = node.content { policy == target.policy } else { true }
  }

  private mutating func rename(
    _ node: Node, _ directory: VaultDirectory, _ name: [UInt8]
  ) throws {
    let (target, targetDirectory) = try place()
    let newName = pick(ModelRun.names)
    let flags = pick([RenameFlags(), RenameFlags(), .noReplace, .exchange])
    let source = node.entries?[name]
    let replaced = target.entries?[newName]
    let same = source != nil && source === replaced
    let fits = source.map { target === node || isMovable($0, target) } ?? false
    let fitsBack = replaced.map { target === node || isMovable($0, node) } ?? false
    var expected = source != nil
    if let source {
      if source.entries != nil, source.contains(target) { expected = false }
      if flags == .exchange {
        expected = expected && replaced != nil
        if let replaced, replaced.entries != nil, replaced.contains(node) { expected = false }
        expected = expected && (same || (fits && fitsBack))
        if same, source.entries == nil || node === target { expected = true }
      } else if let replaced {
        expected = expected && flags != .noReplace
        if !same {
          expected =
            expected && fits && (source.entries == nil) == (replaced.entries == nil)
            && (replaced.entries?.isEmpty ?? true)
        }
      } else {
        expected = expected && fits
      }
    }
    let done = check(expected, "rename \(flags)") {
      try directory.rename(name, to: targetDirectory, newName, flags: flags)
    }
    // A copied link is another inode, which the model does not tell apart from a hard link: both
    // then name the same target, so that nothing depends on it.
    guard done, !same else { return }
    node.set(name, flags == .exchange ? replaced : nil)
    target.set(newName, source)
  }

  // MARK: Comparison

  func compare() throws { try compare(root, vault.root) }

  private func compare(_ node: Node, _ directory: VaultDirectory) throws {
    let entries = node.entries ?? [:]
    let stream = try directory.openStream()
    var listed: [[UInt8]: DirectoryStream.Item] = [:]
    while let item = try stream.next() {
      if item.entryKind == nil { continue }
      #expect(item.problem == nil)
      #expect(listed.updateValue(item, forKey: item.name) == nil, "listed twice")
    }
    #expect(Set(listed.keys) == Set(entries.keys))
    let strays = stream.takeStrays()
    #expect(strays.isEmpty, "\(strays)")
    for (name, child) in entries {
      let entry = try #require(try directory.lookup(name))
      #expect(listed[name]?.inode == entry.status.inode)
      switch child.content {
      case .file(let content, let policy):
        #expect((entry.mode == .plain) == (policy == .plain))
        #expect(try directory.plainStatus(entry).size == UInt64(content.count))
        // Compared first: a failing comparison of long arrays is described at great length.
        let isSame = try directory.content(name) == content
        #expect(isSame)
        #expect(listed[name]?.kind == .regular)
      case .link(let target):
        #expect(try directory.readLink(entry) == target)
        #expect(try directory.plainStatus(entry).kind == .symbolicLink)
        #expect(try directory.plainSize(entry) == UInt64(target.count))
        #expect(listed[name]?.kind == .symbolicLink)
      case .special: #expect(entry.mode == .special)
      case .directory:
        #expect(entry.mode == .directory)
        try compare(child, try directory.openDirectory(entry))
      }
    }
  }
}
