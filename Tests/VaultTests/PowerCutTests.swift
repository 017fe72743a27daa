import Container
import Primitives
import TestSupport
import Testing

@testable import Vault

/// Whole vaults after power cuts at every system call of short scripts.
@Suite struct PowerCutTests {
  struct Scenario: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let act: @Sendable (CutScript) throws -> Void

    static let all = [
      Scenario(testDescription: "files are created and closed") { script in
        try script.create("small", filled(1, 300))
        try script.create("large", filled(2, 20_000))
        try script.makeDirectory("d")
        try script.create("d/inside", filled(3, 5000))
        try script.sync("large")
        try script.create("last", filled(4, 10))
      },
      Scenario(testDescription: "lines are appended and synced") { script in
        try script.create("log", [])
        for line in 0..<6 { try script.append("log", filled(line, 900 + 700 * line)) }
        try script.append("log", filled(9, 100), syncing: false)
      },
      Scenario(testDescription: "a file is overwritten in the middle") { script in
        try script.create("file", filled(0, 30_000))
        try script.sync("file")
        try script.edit("file", writing: [(9000, filled(1, 4096))])
        try script.edit("file", writing: [(8192, filled(2, 8192)), (100, filled(3, 10))])
        try script.edit("file", writing: [(12_000, filled(4, 100))], syncing: true)
      },
      Scenario(testDescription: "a file is truncated and written again") { script in
        try script.create("file", filled(0, 20_000))
        try script.sync("file")
        try script.edit("file", truncatingTo: 0, writing: [(0, filled(1, 9000))])
        try script.edit("file", truncatingTo: 100, syncing: true)
        try script.edit("file", truncatingTo: 0, writing: [(0, filled(2, 50))])
      },
      Scenario(testDescription: "a file is renamed over another") { script in
        try script.create("file", filled(0, 5000))
        try script.sync("file")
        try script.syncFolder("")
        try script.create("file.new", filled(1, 6000))
        try script.rename("file.new", "file")
        try script.create("file.new", filled(2, 100))
        try script.sync("file.new")
        try script.rename("file.new", "file")
        try script.syncFolder("")
      },
      Scenario(testDescription: "names move between directories") { script in
        try script.makeDirectory("a")
        try script.makeDirectory("b")
        try script.create("a/file", filled(0, 4000))
        try script.sync("a/file")
        try script.rename("a/file", "b/file")
        try script.link("b/file", "a/second")
        try script.remove("b/file")
        try script.rename("a", "b/inner")
        try script.create("b/inner/more", filled(1, 100))
        try script.syncFolder("b/inner")
        try script.rename("b/inner", "back")
      },
      Scenario(testDescription: "directories are made and synced") { script in
        try script.makeDirectory("d")
        try script.syncFolder("")
        try script.makeDirectory("d/e")
        try script.create("d/e/file", filled(0, 200))
        try script.sync("d/e/file")
        try script.syncFolder("d/e")
        try script.syncFolder("d")
        try script.remove("d/e/file")
        try script.remove("d/e")
        try script.syncFolder("d")
      },
      Scenario(testDescription: "links are made, moved and exchanged") { script in
        try script.makeDirectory("d")
        try script.makeLink("link", "target")
        try script.makeLink("other", "elsewhere")
        try script.syncFolder("")
        try script.rename("link", "moved")
        try script.rename("moved", "other", isExchange: true)
        try script.create("file", filled(0, 300))
        try script.sync("file")
        try script.rename("file", "other", isExchange: true)
        try script.rename("moved", "d/link")
        try script.syncFolder("d")
      },
      Scenario(testDescription: "a directory is marked") { script in
        try script.makeDirectory("d")
        try script.create("d/before", filled(0, 300))
        try script.sync("d/before")
        try script.syncFolder("d")
        try script.mark("d", .plain)
        try script.create("d/after", filled(1, 300), isPlain: true)
        try script.mark("d", .sealedCompressed)
        try script.create("d/again", filled(2, 9000))
      },
      Scenario(testDescription: "a long name comes and goes") { script in
        let long = String(repeating: "long ", count: 45)
        try script.create(long, filled(0, 300))
        try script.sync(long)
        try script.syncFolder("")
        try script.rename(long, "short")
        try script.makeDirectory(long)
        try script.rename("short", long + "/" + long)
        try script.syncFolder(long)
      },
      Scenario(testDescription: "the key is changed") { script in
        try script.create("file", filled(0, 300))
        try script.changeKey(to: .keyFile(SecretBytes(copying: bytes("another key file"))))
        try script.changeKey(to: .keyFile(SecretBytes(copying: bytes("and a third"))))
      },
      Scenario(testDescription: "sessions end and begin") { script in
        try script.makeDirectory("d")
        try script.create("d/file", filled(0, 5000))
        try script.reopen()
        try script.edit("d/file", writing: [(0, filled(1, 100))])
        try script.rename("d", "e")
        try script.reopen()
        try script.create("e/last", filled(2, 10))
      },
    ]
  }

  /// Content that tells by itself which version of what it is.
  static func filled(_ number: Int, _ count: Int) -> [UInt8] {
    var random = SeededRandom(seed: UInt64(number &* 1000 &+ count))
    return random.bytes(count)
  }

  @Test(arguments: Scenario.all, NamePolicy.allCases)
  func everyStateAfterAPowerCutIsWhole(_ scenario: Scenario, _ names: NamePolicy) throws {
    var random = SeededRandom(for: "power cuts, \(scenario.testDescription), \(names)")
    let script = try CutScript(names)
    try scenario.act(script)
    var cuts = CutStates(script)
    try cuts.run(samples: SeededRandom.rounds(1), &random)
    print("power cuts, \(scenario.testDescription), \(names) names: \(cuts.states) states")
    #expect(cuts.problems.isEmpty, "\(cuts.problems)")
    #expect(cuts.states > 50)
  }

  // MARK: Bugs that the replay must find

  struct Bug: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let scenario: String
    let filter: @Sendable (DiskChange) -> DiskChange?

    static let all = [
      Bug(testDescription: "no file is synced", scenario: "lines are appended and synced") {
        switch $0 {
        case .sync, .syncData: nil
        default: $0
        }
      },
      Bug(testDescription: "no directory is synced", scenario: "directories are made and synced") {
        if case .sync = $0 { nil } else { $0 }
      },
      Bug(testDescription: "a record has no attribute", scenario: "names move between directories")
      {
        if case .setAttribute(_, Format.recordAttribute, _) = $0 { nil } else { $0 }
      },
      Bug(testDescription: "the new header is not synced", scenario: "the key is changed") {
        if case .sync = $0 { nil } else { $0 }
      },
      Bug(testDescription: "a sidecar is not synced", scenario: "a long name comes and goes") {
        if case .syncData = $0 { nil } else { $0 }
      },
      Bug(testDescription: "a session ends without a sync", scenario: "sessions end and begin") {
        if case .syncAll = $0 { nil } else { $0 }
      },
    ]
  }

  @Test(arguments: Bug.all) func replayFinds(_ bug: Bug) throws {
    var random = SeededRandom(for: "a bug: \(bug.testDescription)")
    let scenario = try #require(Scenario.all.first { $0.testDescription == bug.scenario })
    let script = try CutScript(filter: bug.filter)
    try scenario.act(script)
    var cuts = CutStates(script)
    try cuts.run(samples: 4, limit: 1, &random)
    #expect(!cuts.problems.isEmpty)
  }
}

private func filled(_ number: Int, _ count: Int) -> [UInt8] {
  PowerCutTests.filled(number, count)
}
