import Primitives
import TestSupport
import Testing

@testable import Vault

@Suite struct NameTests {
  private func coder(_ policy: NamePolicy) throws -> NameCoder {
    NameCoder(
      keys: try testKeys(), id: DirectoryID(bytes: [UInt8](repeating: 3, count: 16)),
      policy: policy)
  }

  private func kinds(_ policy: NamePolicy) -> [EntryKind] {
    EntryKind.allCases.filter { $0.suffix(policy) != nil }
  }

  private func decode(
    _ coder: NameCoder, _ backing: NameCoder.BackingName
  ) -> NameCoder.Decoded {
    coder.decode(backing.name) { $0 == backing.sidecar?.name ? backing.sidecar?.content : nil }
  }

  @Test(arguments: NamePolicy.allCases) func namesOfEveryLengthRoundTrip(
    _ policy: NamePolicy
  ) throws {
    let coder = try coder(policy)
    var random = SeededRandom(for: "names of every length")
    for count in 1...255 {
      for kind in kinds(policy) {
        // Any byte but NUL and slash: names need not be UTF-8.
        let name = (0..<count).map { _ in
          let byte = UInt8.random(in: 1...254, using: &random)
          return byte == UInt8(ascii: "/") ? 0xFF : byte
        }
        if !isValidName(name) { continue }
        let backing = try coder.encode(name, kind: kind)
        #expect(backing.name.count <= 255)
        #expect(!backing.name.contains(UInt8(ascii: "/")))
        #expect(decode(coder, backing) == .entry(name: name, kind: kind))
      }
    }
  }

  @Test func sealedNamesAreHashedFrom161BytesOn() throws {
    let coder = try coder(.sealed)
    for (count, isHashed) in [(159, false), (160, false), (161, true)] {
      let backing = try coder.encode([UInt8](repeating: 120, count: count), kind: .primary)
      #expect((backing.sidecar != nil) == isHashed, "\(count) bytes")
    }
  }

  @Test func plainNamesThatLookLikeOursAreEscaped() throws {
    let coder = try coder(.plain)
    let names = [
      ".scrim-dir", ".scrim-new.x", ".scrim-h.x", ".scrim-n.x", ".scrim-", "x.scrim-c",
      "x.scrim-l", ".scrim-c", ".scrim-x.scrim-c", "x.scrim-c.scrim-l", "~x", "x.n", "x.p",
      ".scrim-n..scrim-dir", "_", "x_",
    ]
    var seen: Set<[UInt8]> = []
    for name in names {
      for kind in kinds(.plain) {
        let backing = try coder.encode(bytes(name), kind: kind)
        #expect(seen.insert(backing.name).inserted, "\(name)")
        #expect(decode(coder, backing) == .entry(name: bytes(name), kind: kind), "\(name)")
      }
    }
    for reserved in [".scrim-dir", ".scrim-dir.new", ".scrim-new.abc", ".scrim-future"] {
      #expect(coder.decode(bytes(reserved)) { _ in nil } == .reserved)
    }
    #expect(coder.decode(bytes(".scrim-n.x")) { _ in nil } == .unknown)
    #expect(coder.decode(bytes(".scrim-n.x_")) { _ in nil } == .unknown)
  }

  @Test func aSealedNameIsNoOtherKindsNorDirectorys() throws {
    let coder = try coder(.sealed)
    let other = NameCoder(
      keys: coder.keys, id: DirectoryID(bytes: [UInt8](repeating: 4, count: 16)),
      policy: .sealed)
    let name = try coder.encode(bytes("secret plan"), kind: .primary).name
    for suffix in [".p", ".s", ".l"] {
      #expect(coder.decode(name + bytes(suffix)) { _ in nil } == .unknown)
    }
    #expect(other.decode(name) { _ in nil } == .unknown)
    for index in name.indices {
      var changed = name
      changed[index] = changed[index] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
      if changed == name { continue }
      #expect(coder.decode(changed) { _ in nil } == .unknown)
      #expect(coder.decode(Array(name[..<index])) { _ in nil } == .unknown)
    }
  }

  @Test(arguments: NamePolicy.allCases) func aSidecarMustHoldWhatItsNameSays(
    _ policy: NamePolicy
  ) throws {
    let coder = try coder(policy)
    let kind: EntryKind = policy == .sealed ? .primary : .container
    let long = try coder.encode([UInt8](repeating: 65, count: 255), kind: kind)
    let sidecar = try #require(long.sidecar)
    #expect(coder.decode(sidecar.name) { _ in nil } == .sidecar)
    #expect(coder.decode(long.name) { _ in nil } == .unknown)
    #expect(coder.decode(long.name) { _ in sidecar.content + [65] } == .unknown)
    // A short name under its hash would be a second name for the same entry.
    let short = try coder.encode(bytes("short"), kind: kind)
    let suffix = try #require(kind.suffix(policy))
    let stem = Array(short.name.dropLast(suffix.count))
    let prefix = policy == .sealed ? bytes("~") : bytes(".scrim-h.")
    let hashed = prefix + Base64URL.encode(KeyDerivation.sha256(stem)) + suffix
    #expect(coder.decode(hashed) { _ in stem } == .unknown)
  }

  @Test func additionsOfSynchronisingToolsAreFound() throws {
    let cases = [
      ("a.sync-conflict-20240101-120000-ABCDEFG.txt", "a.txt"),
      ("a.sync-conflict-20240101-120000-ABCDEFG", "a"),
      ("a (conflicted copy 2024-01-01).txt", "a.txt"),
      ("a (Tom's conflicted copy 2024-01-01).txt", "a.txt"),
      ("report (1) (x conflicted copy y)", "report (1)"),
    ]
    for (name, original) in cases {
      let conflict = try #require(ConflictName(bytes(name)))
      #expect(conflict.original == bytes(original))
      #expect(
        ConflictName.shown(conflict.original, addition: conflict.addition) == bytes(name))
    }
    #expect(ConflictName(bytes("conflicted copy")) == nil)
    #expect(ConflictName(bytes("plain (1).txt")) == nil)
  }

  @Test func theCacheStaysBounded() {
    let cache = NameCache(capacity: 8)
    for index in 0..<100 {
      cache.insert(NameCache.Key(name: bytes("\(index)"), kind: .primary), bytes("b\(index)"))
    }
    #expect(cache.backingName(NameCache.Key(name: bytes("99"), kind: .primary)) == bytes("b99"))
    #expect(cache.plainName(bytes("b99"))?.name == bytes("99"))
    #expect(cache.backingName(NameCache.Key(name: bytes("50"), kind: .primary)) == nil)
    #expect(cache.plainName(bytes("b50")) == nil)
    cache.removeAll()
    #expect(cache.plainName(bytes("b99")) == nil)
  }
}
