import Container
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// Many threads in the same few directories.
@Suite struct ConcurrencyTests {
  private static let names =
    (0..<6).map { bytes("name \($0)") } + [[UInt8](repeating: 88, count: 220)]

  /// One operation chosen at random; whether it succeeds depends on the others.
  private static func act(
    _ directories: [VaultDirectory], _ random: inout SeededRandom
  ) throws {
    let directory = directories[Int.random(in: 0..<directories.count, using: &random)]
    let other = directories[Int.random(in: 0..<directories.count, using: &random)]
    let name = names[Int.random(in: 0..<names.count, using: &random)]
    let newName = names[Int.random(in: 0..<names.count, using: &random)]
    switch Int.random(in: 0..<9, using: &random) {
    case 0, 1: try directory.makeFile(name, bytes("content"))
    case 2: _ = try directory.makeDirectory(name, mode: 0o755, owner: nil)
    case 3: _ = try directory.makeSymbolicLink(name, target: bytes("t"), owner: nil)
    case 4: try directory.removeFile(name)
    case 5: try directory.removeDirectory(name)
    case 6: try directory.rename(name, to: other, newName)
    case 7: try directory.rename(name, to: other, newName, flags: .exchange)
    default:
      if let entry = try directory.lookup(name), entry.mode == .container {
        _ = try directory.content(name)
      }
    }
  }

  @Test(arguments: NamePolicy.allCases) func threadsLeaveAConsistentVault(
    _ names: NamePolicy
  ) async throws {
    let vault = try TestVault(names: names)
    let directories = [vault.root] + (try (0..<2).map { try vault.root.makeDirectory("d\($0)") })
    let seed = SeededRandom(for: "threads").state(names)
    await withTaskGroup(of: Void.self) { group in
      for thread in 0..<4 {
        group.addTask {
          var random = SeededRandom(seed: seed &+ UInt64(thread))
          for _ in 0..<SeededRandom.rounds(150) {
            do {
              try ConcurrencyTests.act(directories, &random)
            } catch let error as VaultError {
              // What one thread looked up another may have taken away.
              if case .damaged(let reason) = error { Issue.record("damaged: \(reason)") }
              if case .refused(let reason) = error { Issue.record("refused: \(reason)") }
            } catch {}
          }
        }
      }
    }
    try vault.reopen()
    try check(vault.root)
  }

  private func check(_ directory: VaultDirectory) throws {
    let stream = try directory.openStream()
    while let item = try stream.next() {
      if item.entryKind == nil { continue }
      #expect(item.problem == nil)
      let entry = try #require(try directory.lookup(item.name))
      switch entry.mode {
      case .container: #expect(try directory.content(item.name) == bytes("content"))
      case .directory: try check(try directory.openDirectory(entry))
      case .symbolicLink: #expect(try directory.readLink(entry) == bytes("t"))
      case .plain, .longLink, .special: Issue.record("an entry nobody made")
      }
    }
    #expect(stream.takeStrays().isEmpty)
    let backing = try directory.reopened()
    let left = try Sys.entries(of: backing.rawValue).filter {
      $0.name.starts(with: bytes(".scrim-new."))
    }
    #expect(left.isEmpty)
  }
}

extension SeededRandom {
  fileprivate func state(_ names: NamePolicy) -> UInt64 {
    var copy = self
    return copy.next() &+ UInt64(names.rawValue)
  }
}
