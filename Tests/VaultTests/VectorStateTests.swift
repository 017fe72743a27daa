import Container
import Primitives
import TestSupport
import Testing

@testable import Vault

/// The known answers about size hints and sessions.
@Suite struct VectorStateTests {
  private struct Hint: VaultVector {
    struct Shown: Decodable {
      let size: UInt64
      let backingLength: UInt64
      let commit: UInt64
    }

    let name: String
    let master: Hex
    let vaultId: Hex
    let suite: UInt8
    let inode: UInt64
    let hint: Hex
    let expect: Shown?
  }

  @Test func hintsAreTheKnownOnes() throws {
    for vector in try Vectors.cases("hint/hint.json", as: Hint.self) {
      let keys = try vector.keys()
      let known = vector.expect.map {
        SizeHint(size: $0.size, backingLength: $0.backingLength, commit: $0.commit)
      }
      let found = SizeHint(opening: vector.hint.bytes, with: keys, inode: vector.inode)
      #expect(found == known, "\(vector.name)")
    }
  }

  private struct Session: VaultVector {
    struct Shown: Decodable {
      let serial: UInt64
      let number: UInt64
      let state: UInt8
      let start: Int64
      let windows: [[Int64]]
    }

    let name: String
    let master: Hex
    let vaultId: Hex
    let suite: UInt8
    let file: SparseFile
    let expect: Shown?
  }

  @Test func sessionFilesAreTheKnownOnes() throws {
    for vector in try Vectors.cases("session/session.json", as: Session.self) {
      let keys = try vector.keys()
      let folder = try TemporaryDirectory()
      _ = try folder.makeFile("scrim.session", vector.file.bytes)
      guard let known = vector.expect else {
        #expect(throws: VaultError.self, "\(vector.name)") {
          _ = try SessionFile.observe(in: folder.descriptor.rawValue, keys: keys)
        }
        continue
      }
      let found = try SessionFile.observe(in: folder.descriptor.rawValue, keys: keys)
      #expect(found.number == known.number, "\(vector.name)")
      var windows = found.windows
      if known.state == 1 { #expect(windows.removeLast().start == known.start) }
      let shown = windows.map { window in
        [window.start, window.end]
          + [window.sessions.lowerBound, window.sessions.upperBound].map { Int64($0) }
      }
      #expect(shown == known.windows, "\(vector.name)")
    }
  }

  private struct Excuse: Decodable {
    let name: String
    let state: UInt8
    let start: Int64
    let now: Int64
    let windows: [[Int64]]
    let ctime: Int64
    let excused: Bool
  }

  @Test func windowsExcuseAsKnown() throws {
    for vector in try Vectors.cases("session/excuses.json", as: Excuse.self) {
      var windows = vector.windows.map {
        UncleanWindow(start: $0[0], end: $0[1], sessions: UInt64($0[2])...UInt64($0[3]))
      }
      if vector.state == 1 {
        let state = SessionState(
          serial: 1, session: 1, isOpen: true, start: vector.start, windows: windows)
        windows.append(state.window(until: vector.now))
      }
      let time = TimeSpec(
        seconds: vector.ctime / 1_000_000_000,
        nanoseconds: UInt32(vector.ctime % 1_000_000_000))
      #expect(windows.contains { $0.excuses(time) } == vector.excused, "\(vector.name)")
    }
  }
}
