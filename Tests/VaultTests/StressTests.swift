import Container
import Primitives
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// 32 threads work on the same few files and directories; every byte read must be one that some
/// thread wrote as it is.
@Suite struct StressTests {
  private static let unit = 512
  private static let units = 160
  private static let names = (0..<5).map { bytes("file \($0)") }

  /// What a thread writes as one: it tells by itself whether it is whole.
  private static func filled(_ thread: Int, _ round: Int) -> [UInt8] {
    [UInt8(thread), UInt8(truncatingIfNeeded: round)]
      + (2..<unit).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ thread &* 31 &+ round &* 13) }
  }

  private static func isWhole(_ content: ArraySlice<UInt8>) -> Bool {
    guard let thread = content.first, let round = content.dropFirst().first else { return true }
    return content.allSatisfy { $0 == 0 }
      || content.elementsEqual(filled(Int(thread), Int(round)).prefix(content.count))
  }

  private static func isWhole(file content: [UInt8]) -> Bool {
    stride(from: 0, to: content.count, by: unit).allSatisfy {
      isWhole(content[$0..<min($0 + unit, content.count)])
    }
  }

  private struct Worker {
    let directories: [VaultDirectory]
    let thread: Int
    var random: SeededRandom
    var round = 0

    private mutating func pick<T>(_ values: [T]) -> T {
      values[Int.random(in: 0..<values.count, using: &random)]
    }

    /// Returns what is wrong with what it saw.
    mutating func step() throws -> String? {
      round += 1
      let directory = pick(directories)
      let name = pick(names)
      switch Int.random(in: 0..<20, using: &random) {
      case 0: _ = try directory.createFile(name, mode: 0o644, owner: nil).container?.commit()
      case 1: try directory.rename(name, to: pick(directories), pick(names))
      case 2: try directory.rename(name, to: pick(directories), pick(names), flags: .exchange)
      case 3 where random.chance(oneIn: 4): try directory.removeFile(name)
      case 4:
        let entry = try directory.require(name)
        _ = try directory.link(entry, to: pick(directories), as: pick(names))
      case 5: return try nest(directory)
      case 6: return try link(directory)
      default: return try useFile(directory, name)
      }
      return nil
    }

    private mutating func useFile(
      _ directory: VaultDirectory, _ name: [UInt8]
    ) throws -> String? {
      let entry = try directory.require(name)
      guard entry.mode == .container else { return nil }
      let container = try directory.openContainer(entry)
      let place = UInt64(Int.random(in: 0..<units, using: &random) * unit)
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<4:
        try StressTests.filled(thread, round & 0xFF).withUnsafeBytes {
          try container.file.write(at: place, from: $0)
        }
      case 4: try container.file.truncate(to: place)
      case 5: try container.file.punchHole(at: place, count: UInt64(unit * 9))
      case 6: try container.commit()
      case 7: try container.sync()
      case 8: _ = try directory.plainStatus(entry)
      default: break
      }
      var content = [UInt8](repeating: 0, count: unit * 20)
      let count = try content.withUnsafeMutableBytes {
        try container.file.read(at: place, into: $0)
      }
      return isWhole(file: Array(content[..<count])) ? nil : "a torn read"
    }

    private mutating func nest(_ directory: VaultDirectory) throws -> String? {
      let name = bytes("nested \(thread % 3)")
      if random.chance(oneIn: 2) {
        try directory.removeDirectory(name)
      } else {
        let made = try directory.makeDirectory(name, mode: 0o755, owner: nil).directory
        try made.makeFile("inside", StressTests.filled(thread, 1))
        try made.removeFile(bytes("inside"))
      }
      return nil
    }

    private mutating func link(_ directory: VaultDirectory) throws -> String? {
      let (name, other) = (bytes("link \(thread % 3)"), bytes("link \((thread + 1) % 3)"))
      switch Int.random(in: 0..<4, using: &random) {
      case 0: _ = try directory.makeSymbolicLink(name, target: bytes("target"), owner: nil)
      case 1: try directory.rename(name, to: pick(directories), other, flags: .exchange)
      case 2: try directory.removeFile(name)
      default:
        let target = try directory.readLink(try directory.require(name))
        return target == bytes("target") ? nil : "another target"
      }
      return nil
    }
  }

  @Test(arguments: NamePolicy.allCases) func threadsSeeOnlyWhatWasWritten(
    _ names: NamePolicy
  ) throws {
    let vault = try TestVault(content: .sealedCompressed, names: names)
    let directories =
      [vault.root] + (try (0..<2).map { try vault.root.makeDirectory("d\($0)") })
    let seed = SeededRandom(for: "stress, \(names)")
    let problems = Mutex<[String]>([])
    let done = ThreadRunner.run(count: 32) { thread in
      var random = seed
      for _ in 0...thread { _ = random.next() }
      var worker = Worker(
        directories: directories, thread: thread, random: SeededRandom(seed: random.next()))
      for _ in 0..<SeededRandom.rounds(60) {
        do {
          if let problem = try worker.step() { problems.withLock { $0.append(problem) } }
        } catch let error as VaultError {
          switch error {
          case .damaged, .refused, .container(.damaged):
            problems.withLock { $0.append("\(error)") }
          default: break  // What one thread looked up another may have taken away.
          }
        } catch ContainerError.damaged(let damage) {
          problems.withLock { $0.append("\(damage)") }
        } catch {}
      }
      return true
    }
    #expect(done.allSatisfy { $0 })
    let seen = problems.withLock { $0 }
    #expect(seen.isEmpty, "\(seen.prefix(5)) and \(seen.count)")
    try vault.reopen()
    var unreadable: [String] = []
    let found = vault.root.everything(&unreadable)
    #expect(unreadable.isEmpty, "\(unreadable.prefix(5))")
    for (path, entry) in found {
      guard case .file(let content) = entry else { continue }
      #expect(StressTests.isWhole(file: content), "\(path)")
    }
  }
}
