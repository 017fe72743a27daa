import Container
import Foundation
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// Whole vaults of the vectors, opened and walked for reading.
@Suite struct VectorVaultTests {
  private struct Line: Decodable {
    let path: String
    let type: String
    let mode: String
    let mtimeNs: Int64
    let size: UInt64?
    let sha256: Hex?
    let target: String?
    let attributes: [String: Hex]?
  }

  private struct Problem: Decodable {
    let path: String
    let reason: String
  }

  private struct Manifest: Decodable {
    let passphrase: String
    let tree: [Line]
    let problems: [Problem]
  }

  /// What a walk found: an entry, or why there is none.
  private struct Found {
    var entry: VaultEntry?
    var directory: VaultDirectory?
    var container: VaultDirectory?
    var failure: (any Error)?
  }

  static let names = [
    "v1-compressed-plain", "v1-compressed-sealed", "v1-conflicts", "v1-damaged", "v1-mixed",
    "v1-plain-plain", "v1-plain-sealed", "v1-sealed-compressed-plain",
    "v1-sealed-compressed-sealed", "v1-sealed-plain", "v1-sealed-sealed", "v1-torn",
  ]

  @Test(arguments: names) func vaultIsReadAsKnown(_ name: String) throws {
    let manifest = try Vectors.decode("vaults/\(name).json", as: Manifest.self)
    let folder = try Self.unpack(name)
    let vault = try Vault.open(
      at: folder.path(name),
      secret: .passphrase(SecretBytes(copying: [UInt8](manifest.passphrase.utf8))),
      access: .readOnly)
    var found: [String: Found] = [".": Found(directory: vault.root)]
    try Self.walk(vault.root, "", into: &found)
    for line in manifest.tree {
      guard let item = found.removeValue(forKey: line.path), item.failure == nil else {
        Issue.record("\(line.path) is not found")
        continue
      }
      let attributesAreDamaged = manifest.problems.contains {
        $0.path == line.path && $0.reason == "attribute"
      }
      try Self.check(item, line, attributesAreDamaged)
    }
    let damaged = Set(manifest.problems.map(\.path))
    for (path, item) in found {
      #expect(damaged.contains(path) || item.failure != nil, "\(path) is too much")
      #expect(throws: (any Error).self, "\(path) can be read") { try Self.readWhole(item) }
    }
  }

  static func unpack(_ name: String) throws -> TemporaryDirectory {
    let memory = try TemporaryDirectory(.memory)
    let probe: Void? = try? Sys.fsetxattr(
      memory.descriptor.rawValue, [UInt8]("user.test".utf8), [1])
    let folder = probe == nil ? try TemporaryDirectory(.disk) : memory
    let tar = Process()
    tar.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    let archive = Vectors.folder.appendingPathComponent("vaults/\(name).tar.gz").path
    tar.arguments = [
      "tar", "--xattrs", "--xattrs-include=user.*", "-C", folder.path, "-xzf", archive,
    ]
    try tar.run()
    tar.waitUntilExit()
    try #require(tar.terminationStatus == 0)
    return folder
  }

  /// Percent-encoded as in the manifests: everything but letters, digits and `_.-~/`.
  private static func encoded(_ name: [UInt8]) -> String {
    name.map { byte in
      let scalar = UnicodeScalar(byte)
      let isPlain =
        byte < 0x80 && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar))
      if isPlain || "_.-~/".unicodeScalars.contains(scalar) { return String(Character(scalar)) }
      return "%" + hex([byte]).uppercased()
    }.joined()
  }

  private static func walk(
    _ directory: VaultDirectory, _ prefix: String, into found: inout [String: Found]
  ) throws {
    for item in try directory.list() {
      let path = prefix + encoded(item.name)
      do {
        guard let entry = try directory.lookup(item.name) else {
          throw VaultError.damaged("listed, but not there")
        }
        if case .directory = entry.mode {
          let child = try directory.openDirectory(entry)
          if found[path] == nil { try walk(child, path + "/", into: &found) }
          found[path] = Found(entry: entry, directory: child)
        } else {
          found[path] = Found(entry: entry, container: directory)
        }
      } catch {
        found[path] = Found(failure: error)
      }
    }
  }

  private static func check(
    _ item: Found, _ line: Line, _ attributesAreDamaged: Bool
  ) throws {
    guard let entry = item.entry else { return }
    let kinds: [FileKind: String] = [
      .directory: "directory", .symbolicLink: "symlink", .regular: "file", .fifo: "fifo",
    ]
    let kind = entry.mode == .longLink ? "symlink" : kinds[entry.status.kind]
    #expect(kind == line.type, "\(line.path)")
    if line.type != "symlink" {
      #expect(String(entry.status.mode & 0o7777, radix: 8) == unpadded(line.mode), "\(line.path)")
    }
    let time = entry.status.mtime
    #expect(
      time.seconds * 1_000_000_000 + Int64(time.nanoseconds) == line.mtimeNs, "\(line.path)")
    guard let parent = item.container else { return }
    if let target = line.target {
      #expect(encoded(try parent.readLink(entry)) == target, "\(line.path)")
    }
    if line.type == "file" {
      #expect(try parent.plainSize(entry) == line.size, "\(line.path)")
      if let sum = line.sha256 {
        #expect(KeyDerivation.sha256(try readWhole(item)) == sum.bytes, "\(line.path)")
      }
    }
    if attributesAreDamaged {
      #expect(throws: VaultError.self) { try parent.attributes(of: entry).list() }
    } else if line.type == "file" || line.type == "fifo" {
      try checkAttributes(parent.attributes(of: entry), line)
    }
  }

  private static func unpadded(_ mode: String) -> String {
    String(mode.drop { $0 == "0" })
  }

  private static func checkAttributes(_ attributes: Attributes, _ line: Line) throws {
    var shown: [String: [UInt8]] = [:]
    for name in try attributes.list() { shown[encoded(name)] = try attributes.get(name) }
    #expect(shown == (line.attributes ?? [:]).mapValues(\.bytes), "\(line.path)")
  }

  /// Everything there is to read of an entry; the content of a file.
  @discardableResult
  private static func readWhole(_ item: Found) throws -> [UInt8] {
    if let failure = item.failure { throw failure }
    guard let entry = item.entry, let parent = item.container else { return [] }
    switch entry.mode {
    case .symbolicLink, .longLink: return try parent.readLink(entry)
    case .container:
      let file = try parent.openContainer(entry).file
      var content = [UInt8](repeating: 0, count: Int(file.size))
      let count = try content.withUnsafeMutableBytesTyped { (buffer) throws(ContainerError) in
        try file.read(at: 0, into: buffer)
      }
      try #require(count == content.count)
      return content
    case .plain:
      let descriptor = try parent.openPlain(entry, [.readOnly])
      var content = [UInt8](repeating: 0, count: Int(entry.status.size))
      _ = try content.withUnsafeMutableBytesTyped { (buffer) throws(Errno) in
        try Sys.pread(descriptor.rawValue, buffer, at: 0)
      }
      return content
    case .directory, .special: return []
    }
  }
}
