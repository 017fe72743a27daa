import Container
import Primitives
import TestSupport
import Testing

@testable import Vault

@Suite struct CodecTests {
  private func record(_ keys: MasterKeys) throws -> DirectoryRecord {
    DirectoryRecord(
      id: .random(), serial: 41, content: .sealedCompressed, names: .plain,
      flags: [.specialFiles, .longLinks],
      rules: [
        try #require(ContentRule(pattern: bytes("*.mp4"), policy: .plain)),
        try #require(
          ContentRule(pattern: [UInt8](repeating: 0xFF, count: 255), policy: .compressed)),
      ],
      bindings: [keys.rootBinding, keys.binding(of: bytes("x"), in: .random())])
  }

  @Test(arguments: CipherSuite.allCases) func recordsRoundTrip(_ suite: CipherSuite) throws {
    let keys = try testKeys(suite: suite)
    let record = try record(keys)
    #expect(DirectoryRecord(opening: try record.sealed(with: keys), with: keys) == record)
  }

  @Test func everyFlippedByteAndTruncationOfARecordIsRejected() throws {
    let keys = try testKeys()
    let sealed = try record(keys).sealed(with: keys)
    for index in sealed.indices {
      var changed = sealed
      changed[index] ^= 0x10
      #expect(DirectoryRecord(opening: changed, with: keys) == nil, "byte \(index)")
    }
    for count in 0..<sealed.count {
      #expect(DirectoryRecord(opening: Array(sealed[..<count]), with: keys) == nil)
    }
    #expect(DirectoryRecord(opening: sealed + [0], with: keys) == nil)
  }

  @Test func authenticRecordsWithForbiddenFieldsAreRejected() throws {
    let keys = try testKeys()
    var record = try record(keys)
    record.rules = []
    let sealed = try record.sealed(with: keys)
    let parts = Sealer.Parts(
      nonce: Array(sealed[8..<20]), tag: Array(sealed[20..<36]), body: Array(sealed[36...]))
    let data = bytes("SCRIMDIR") + keys.vaultID
    let body = try keys.records.open(parts, associatedData: data)
    // Policies, undefined flags, number of bindings and rules, the zero field.
    for (offset, value) in [(24, 4), (25, 2), (26, 32), (28, 0), (28, 3), (29, 33), (30, 1)] {
      var changed = body
      changed[offset] = UInt8(value)
      let resealed = try keys.records.seal(changed, associatedData: data)
      #expect(
        DirectoryRecord(
          opening: bytes("SCRIMDIR") + resealed.nonce + resealed.tag + resealed.body, with: keys)
          == nil, "offset \(offset)")
    }
  }

  @Test func hintsRoundTripAndBelongToTheirInode() throws {
    let keys = try testKeys()
    let hint = SizeHint(size: 1 << 40, backingLength: 8192, commit: 3)
    let sealed = try hint.sealed(with: keys, inode: 5)
    #expect(SizeHint(opening: sealed, with: keys, inode: 5) == hint)
    #expect(SizeHint(opening: sealed, with: keys, inode: 6) == nil)
    for index in sealed.indices {
      var changed = sealed
      changed[index] ^= 1
      #expect(SizeHint(opening: changed, with: keys, inode: 5) == nil)
    }
    #expect(SizeHint(opening: Array(sealed.dropLast()), with: keys, inode: 5) == nil)
  }

  @Test func sessionPagesRoundTripAndRejectChanges() throws {
    let keys = try testKeys()
    var state = SessionState(
      serial: 9, session: 1_700_000_000, isOpen: true, start: -5, windows: [])
    for index in 0..<70 {
      let session = UInt64(index) + 1
      state.add(
        UncleanWindow(
          start: Int64(index) * 10, end: Int64(index) * 10 + 5, sessions: session...session))
    }
    #expect(state.windows.count == 64)
    #expect(state.windows[0] == UncleanWindow(start: 0, end: 65, sessions: 1...7))
    #expect(state.windows[63] == UncleanWindow(start: 690, end: 695, sessions: 70...70))
    let page = try state.sealed(with: keys)
    #expect(page.count == 4096)
    #expect(SessionState(opening: page, with: keys) == state)
    for index in stride(from: 0, to: page.count, by: 13) {
      var changed = page
      changed[index] ^= 0x80
      #expect(SessionState(opening: changed, with: keys) == nil)
    }
    #expect(SessionState(opening: Array(page.dropLast()), with: keys) == nil)
  }

  @Test(arguments: [
    ("*", "", false), ("*.mp4", "a.mp4", true), ("*.mp4", ".mp4", true), ("*.mp4", "a.mp", false),
    ("a?c", "abc", true), ("a?c", "ac", false), ("*a*b*", "xxayybzz", true),
    ("*a*b", "abab", true), ("**", "x", true), ("[ab]", "a", false), ("[ab]", "[ab]", true),
    ("abc", "abcd", false),
  ]) func patternsMatchWholeNames(_ pattern: String, _ name: String, _ matches: Bool) throws {
    let rule = try #require(ContentRule(pattern: bytes(pattern), policy: .plain))
    if name.isEmpty { return }
    #expect(rule.matches(bytes(name)) == matches)
  }

  @Test func aPatternOfManyStarsTakesNoExponentialTime() throws {
    let pattern = [UInt8](repeating: UInt8(ascii: "*"), count: 200) + bytes("b")
    let rule = try #require(ContentRule(pattern: pattern, policy: .plain))
    #expect(!rule.matches([UInt8](repeating: UInt8(ascii: "a"), count: 255)))
    var alternating: [UInt8] = []
    for _ in 0..<100 { alternating += bytes("*a") }
    let second = try #require(ContentRule(pattern: alternating + bytes("b"), policy: .plain))
    #expect(!second.matches([UInt8](repeating: UInt8(ascii: "a"), count: 255)))
  }
}
