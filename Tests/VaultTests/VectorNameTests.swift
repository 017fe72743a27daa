import Container
import Primitives
import TestSupport
import Testing

@testable import Vault

/// The known answers about names, link targets and directory records.
@Suite struct VectorNameTests {
  private struct Sidecar: Decodable {
    let name: String
    let content: Hex
  }

  private struct SealedName: VaultVector {
    let name: String
    let master: Hex
    let vaultId: Hex
    let suite: UInt8
    let directory: Hex
    let kind: UInt8?
    let plain: Hex?
    let backing: String
    let sidecar: Sidecar?
  }

  private struct PlainName: Decodable {
    let name: String
    let kind: UInt8?
    let plain: Hex?
    let backing: Hex
    let sidecar: Sidecar?
  }

  /// Decodes, and encodes again what is a name.
  private func check(
    _ coder: NameCoder, _ name: String, backing: [UInt8], sidecar: Sidecar?, plain: [UInt8]?,
    kind: UInt8?
  ) throws {
    let decoded = coder.decode(backing) { wanted in
      wanted == sidecar.map { [UInt8]($0.name.utf8) } ? sidecar?.content.bytes : nil
    }
    guard let plain, let kind = kind.flatMap(EntryKind.init(rawValue:)) else {
      if case .entry = decoded { Issue.record("decodes: \(name)") }
      return
    }
    #expect(decoded == .entry(name: plain, kind: kind), "\(name)")
    let made = sidecar.map {
      NameCoder.Sidecar(name: [UInt8]($0.name.utf8), content: $0.content.bytes)
    }
    #expect(
      try coder.encode(plain, kind: kind) == NameCoder.BackingName(name: backing, sidecar: made),
      "\(name)")
  }

  @Test func sealedNamesAreTheKnownOnes() throws {
    for vector in try Vectors.cases("names/sealed.json", as: SealedName.self) {
      let coder = NameCoder(
        keys: try vector.keys(), id: DirectoryID(bytes: vector.directory.bytes), policy: .sealed)
      try check(
        coder, vector.name, backing: [UInt8](vector.backing.utf8), sidecar: vector.sidecar,
        plain: vector.plain?.bytes, kind: vector.kind)
    }
  }

  @Test func plainNamesAreTheKnownOnes() throws {
    let keys = try #require(try Vectors.cases("names/sealed.json", as: SealedName.self).first)
    let coder = NameCoder(keys: try keys.keys(), id: .random(), policy: .plain)
    for vector in try Vectors.cases("names/plain.json", as: PlainName.self) {
      try check(
        coder, vector.name, backing: vector.backing.bytes, sidecar: vector.sidecar,
        plain: vector.plain?.bytes, kind: vector.kind)
    }
  }

  private struct Shown: Decodable {
    struct Rule: Decodable {
      let content: UInt8
      let pattern: Hex
    }

    let id: Hex
    let serial: UInt64
    let content: UInt8
    let names: UInt8
    let flags: UInt16
    let allowed: UInt16
    let bindings: [Hex]
    let rules: [Rule]
  }

  private struct Record: VaultVector {
    let name: String
    let master: Hex
    let vaultId: Hex
    let suite: UInt8
    let parent: Hex
    let plain: Hex
    let record: Hex
    let expect: Shown?
  }

  @Test func recordsAreTheKnownOnes() throws {
    for vector in try Vectors.cases("record/record.json", as: Record.self) {
      let keys = try vector.keys()
      let binding = keys.binding(
        of: vector.plain.bytes, in: DirectoryID(bytes: vector.parent.bytes))
      let opened = DirectoryRecord(opening: vector.record.bytes, with: keys)
      let record = opened.flatMap { $0.bindings.contains(binding) ? $0 : nil }
      guard let known = vector.expect else {
        #expect(record == nil, "\(vector.name)")
        continue
      }
      let found = try #require(record, "\(vector.name)")
      #expect(found.id.bytes == known.id.bytes)
      #expect(found.serial == known.serial)
      #expect(found.content.rawValue == known.content)
      #expect(found.names.rawValue == known.names)
      #expect(found.flags.rawValue == known.flags)
      #expect(found.allowed.rawValue == known.allowed, "\(vector.name)")
      #expect(found.bindings.map(\.bytes) == known.bindings.map(\.bytes))
      #expect(found.rules.map(\.pattern) == known.rules.map(\.pattern.bytes))
      #expect(found.rules.map(\.policy.rawValue) == known.rules.map(\.content))
    }
  }

  private struct Match: Decodable {
    let name: String
    let pattern: Hex
    let plain: Hex
    let matches: Bool
  }

  @Test func rulesMatchAsKnown() throws {
    for vector in try Vectors.cases("record/rules.json", as: Match.self) {
      let rule = try #require(ContentRule(pattern: vector.pattern.bytes, policy: .plain))
      #expect(rule.matches(vector.plain.bytes) == vector.matches, "\(vector.name)")
    }
  }
}
