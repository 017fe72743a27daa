import Container
import Primitives
import SystemPackage
import TestSupport

@testable import Vault

/// Operations on a vault whose folder is recorded, with what each of them promises.
final class CutScript {
  enum Kind: Equatable {
    case directory
    case file
    /// Its content is not ours to keep whole.
    case plainFile
    case link([UInt8])
  }

  /// A file, directory, or link, however it is called.
  final class Node {
    let kind: Kind
    /// What was committed, and by which step.
    var versions: [(step: Int, content: [UInt8])]
    /// Which version was synced, and how much was logged by then.
    var synced: [(logged: Int, step: Int, version: Int)] = []

    init(_ kind: Kind, step: Int) {
      self.kind = kind
      versions = [(step, [])]
    }

    var content: [UInt8] { versions[versions.count - 1].content }
  }

  typealias Names = [String: Node]

  let recorder: DiskRecorder
  private let folder: TemporaryDirectory
  private var path: String { folder.path("vault") }
  private var vault: Vault?
  /// Where in the log each step begins and ends.
  private(set) var steps: [(begin: Int, end: Int)] = []
  /// The names before the first step, and after each.
  private(set) var names: [Names] = [[:]]
  /// Directories whose entries were synced.
  private(set) var promises: [(logged: Int, step: Int, folder: String)] = []
  /// Secrets, and by which step they came.
  private(set) var secrets: [(step: Int, secret: VaultSecret)] = [(-1, testSecret)]

  init(
    _ policy: NamePolicy = .sealed,
    filter: @escaping (DiskChange) -> DiskChange? = { $0 }
  ) throws {
    folder = try TemporaryDirectory()
    let path = folder.path("vault")
    try Vault.create(at: path, slots: [SlotRequest(secret: testSecret)], names: policy)
    let base = try Sys.openat(Sys.currentDirectory, bytes(path), [.readOnly, .directory])
    recorder = try DiskRecorder(base.rawValue, filter: filter)
    try open()
  }

  private func open() throws {
    vault = try watchingCalls(recorder) {
      try Vault.open(at: path, secret: secrets[secrets.count - 1].secret, access: .readWrite)
    }
  }

  /// Runs one operation.
  private func run(_ call: (Vault) throws -> Void, _ model: (inout Names) -> Void) throws {
    guard let vault else { preconditionFailure("the vault is open between steps") }
    let begin = recorder.log.count
    try watchingCalls(recorder) { try call(vault) }
    steps.append((begin, recorder.log.count))
    var next = names[names.count - 1]
    model(&next)
    names.append(next)
  }

  private static func split(_ path: String) -> (folder: String, name: [UInt8]) {
    guard let slash = path.lastIndex(of: "/") else { return ("", bytes(path)) }
    return (String(path[..<slash]), bytes(String(path[path.index(after: slash)...])))
  }

  static func folder(of path: String) -> String { split(path).folder }

  private func directory(_ path: String, _ vault: Vault) throws -> VaultDirectory {
    try path.split(separator: "/").reduce(vault.root) {
      try $0.openDirectory(named: bytes(String($1)))
    }
  }

  private func place(_ path: String, _ vault: Vault) throws -> (VaultDirectory, [UInt8]) {
    let (folder, name) = CutScript.split(path)
    return (try directory(folder, vault), name)
  }

  private func node(_ path: String) -> Node {
    guard let node = names[names.count - 1][path] else { preconditionFailure("no \(path)") }
    return node
  }

  // MARK: Files

  func create(_ path: String, _ content: [UInt8], isPlain: Bool = false) throws {
    let node = Node(isPlain ? .plainFile : .file, step: steps.count)
    try run {
      let (directory, name) = try place(path, $0)
      try directory.makeFile(name, content)
    } _: {
      $0[path] = node
    }
    node.versions.append((steps.count - 1, content))
  }

  /// Changes a file as whoever opens, changes, perhaps syncs, and closes it.
  func edit(
    _ path: String, truncatingTo size: Int? = nil, writing: [(Int, [UInt8])] = [],
    syncing: Bool = false
  ) throws {
    let node = node(path)
    var content = node.content
    if let size {
      content =
        Array(content.prefix(size)) + [UInt8](repeating: 0, count: max(0, size - content.count))
    }
    for (offset, new) in writing {
      let end = offset + new.count
      if end > content.count { content += [UInt8](repeating: 0, count: end - content.count) }
      content.replaceSubrange(offset..<end, with: new)
    }
    try run {
      let (directory, name) = try place(path, $0)
      let container = try directory.openContainer(try directory.require(name))
      if let size { try container.file.truncate(to: UInt64(size)) }
      for (offset, new) in writing {
        try new.withUnsafeBytes { try container.file.write(at: UInt64(offset), from: $0) }
      }
      if syncing { try container.sync() } else { try container.commit() }
    } _: { _ in
    }
    node.versions.append((steps.count - 1, content))
    if syncing { noteSync(node) }
  }

  func append(_ path: String, _ line: [UInt8], syncing: Bool = true) throws {
    try edit(path, writing: [(node(path).content.count, line)], syncing: syncing)
  }

  func sync(_ path: String) throws {
    try run {
      let (directory, name) = try place(path, $0)
      try directory.openContainer(try directory.require(name)).sync()
    } _: { _ in
    }
    noteSync(node(path))
  }

  private func noteSync(_ node: Node) {
    node.synced.append((recorder.log.count, steps.count - 1, node.versions.count - 1))
  }

  // MARK: Names

  func rename(_ path: String, _ new: String, isExchange: Bool = false) throws {
    try run {
      let (from, name) = try place(path, $0)
      let (into, newName) = try place(new, $0)
      try from.rename(name, to: into, newName, flags: isExchange ? .exchange : [])
    } _: { names in
      let before = names
      for (old, node) in before where CutScript.isAt(old, path) || CutScript.isAt(old, new) {
        if names[old] === node { names[old] = nil }
      }
      for (old, node) in before {
        if CutScript.isAt(old, path) {
          names[new + old.dropFirst(path.count)] = node
        } else if isExchange, CutScript.isAt(old, new) {
          names[path + old.dropFirst(new.count)] = node
        }
      }
    }
  }

  private static func isAt(_ path: String, _ top: String) -> Bool {
    path == top || path.hasPrefix(top + "/")
  }

  func link(_ path: String, _ new: String) throws {
    let node = node(path)
    try run {
      let (from, name) = try place(path, $0)
      let (into, newName) = try place(new, $0)
      _ = try from.link(try from.require(name), to: into, as: newName)
    } _: {
      $0[new] = node
    }
  }

  func remove(_ path: String) throws {
    let isDirectory = node(path).kind == .directory
    try run {
      let (directory, name) = try place(path, $0)
      if isDirectory {
        try directory.removeDirectory(name)
      } else {
        try directory.removeFile(name)
      }
    } _: {
      $0[path] = nil
    }
  }

  func makeDirectory(_ path: String) throws {
    let node = Node(.directory, step: steps.count)
    try run {
      let (directory, name) = try place(path, $0)
      _ = try directory.makeDirectory(name, mode: 0o755, owner: nil)
    } _: {
      $0[path] = node
    }
  }

  func makeLink(_ path: String, _ target: String) throws {
    let node = Node(.link(bytes(target)), step: steps.count)
    try run {
      let (directory, name) = try place(path, $0)
      _ = try directory.makeSymbolicLink(name, target: bytes(target), owner: nil)
    } _: {
      $0[path] = node
    }
  }

  func mark(_ path: String, _ policy: ContentPolicy) throws {
    try run {
      try directory(path, $0).setPolicy(content: policy)
    } _: { _ in
    }
  }

  /// fsync of a directory.
  func syncFolder(_ path: String) throws {
    try run {
      try directory(path, $0).sync()
    } _: { _ in
    }
    promises.append((recorder.log.count, steps.count, path))
  }

  // MARK: The vault

  func changeKey(to secret: VaultSecret) throws {
    let old = secrets[secrets.count - 1].secret
    let path = path
    try run { _ in
      try Vault.replaceSlot(at: path, openedBy: old, with: SlotRequest(secret: secret))
    } _: { _ in
    }
    secrets.append((steps.count - 1, secret))
  }

  /// Ends the session and begins another.
  func reopen() throws {
    try run {
      try $0.close()
    } _: { _ in
    }
    vault = nil
    try open()
    for node in Set(names[names.count - 1].values.map(ObjectIdentifier.init)) {
      let found = names[names.count - 1].values.first { ObjectIdentifier($0) == node }
      if let found { noteSync(found) }
    }
    let folders = names[names.count - 1].filter { $0.value.kind == .directory }.map(\.key)
    for folder in folders + [""] {
      promises.append((steps[steps.count - 1].end, steps.count, folder))
    }
  }
}
