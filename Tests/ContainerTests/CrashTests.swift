import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Container

/// A container on a recording store, and what its commits held.
private final class CrashScript {
  let store: RecordingStore
  let policy: ContentPolicy
  let file: ContainerFile
  /// The backing file as the session before left it.
  let base: [UInt8]
  var bytes: [UInt8] = []
  /// Content of each commit, and how much was logged when it was complete.
  var commits: [(logged: Int, content: [UInt8])] = []
  /// For each sync that returned: how much was logged, and how many commits there were.
  var syncs: [(logged: Int, commits: Int)] = []

  init(
    _ policy: ContentPolicy,
    filter: @escaping @Sendable (RecordingStore.Operation) -> RecordingStore.Operation? = { $0 }
  ) throws {
    self.policy = policy
    store = RecordingStore(filter: filter)
    file = try createContainer(store, policy)
    base = []
  }

  /// Goes on with the file of another script, in the next session.
  init(after old: CrashScript) throws {
    policy = old.policy
    base = old.store.bytes
    bytes = old.bytes
    store = RecordingStore(base)
    file = try openContainer(store, policy, session: 2)
    commits = [(0, bytes)]
    syncs = [(0, 1)]
  }

  func write(_ content: [UInt8], at offset: Int) throws {
    try file.write(content, at: UInt64(offset))
    let end = offset + content.count
    if end > bytes.count { bytes += [UInt8](repeating: 0, count: end - bytes.count) }
    bytes.replaceSubrange(offset..<end, with: content)
  }

  func truncate(_ size: Int) throws {
    try file.truncate(to: UInt64(size))
    if size < bytes.count { bytes.removeLast(bytes.count - size) }
    bytes += [UInt8](repeating: 0, count: size - bytes.count)
  }

  func commit() throws {
    let before = file.commitNumber
    try file.commit()
    note(before)
  }

  func sync() throws {
    let before = file.commitNumber
    try file.sync()
    note(before)
    syncs.append((store.count, commits.count))
  }

  private func note(_ before: UInt64) {
    if file.commitNumber > before { commits.append((store.count, bytes)) }
  }

  /// Contents that a file may have if the power fails after `logged` operations.
  func allowed(after logged: Int) -> [[UInt8]] {
    let durable = syncs.last { $0.logged <= logged }?.commits ?? 0
    // A commit is complete at the latest when it was noted; the one under way may count too.
    let begun = (commits.lastIndex { $0.logged <= logged } ?? -1) + 1
    let first = max(0, durable - 1)
    var contents = commits[min(first, commits.count)...].prefix(begun - first + 1).map(\.content)
    if durable == 0 { contents.append([]) }
    return contents
  }

  /// A random script of writes, cuts, commits and syncs.
  func runRandomly(_ random: inout SeededRandom, steps: Int, limit: Int) throws {
    for _ in 0..<steps {
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<5:
        let offset = Int.random(in: 0..<limit, using: &random)
        let count = min(
          limit - offset, [100, 4096, 9000, 70_000].randomElement(using: &random) ?? 1)
        // Much of it compresses to less than a page.
        let isRandom = random.chance(oneIn: 2)
        let pattern = random.bytes(isRandom ? count : 7)
        try write((0..<count).map { pattern[$0 % pattern.count] }, at: offset)
      case 5: try truncate(Int.random(in: 0..<limit, using: &random))
      case 6..<9: try commit()
      default: try sync()
      }
    }
  }
}

/// Opens what a power cut left, and checks that it is one of the states it may be.
private func check(
  _ image: [UInt8], _ policy: ContentPolicy, _ excuse: TornExcuse, allowed: [[UInt8]],
  thenWrites: Bool
) throws -> Bool {
  let store = MemoryStore(image)
  do {
    let file = try openContainer(store, policy, session: 3, excuse: excuse)
    let content = try file.readAll()
    guard allowed.contains(content), try file.verify(deep: true).isEmpty else { return false }
    guard thenWrites else { return true }
    // Life goes on, and the next reader needs no excuse.
    try file.write([1, 2, 3], at: 5000)
    try file.sync()
    let expected = try file.readAll()
    let next = try openContainer(store, policy, session: 4)
    return try next.readAll() == expected && next.verify(deep: true).isEmpty
  } catch is ContainerError {
    return false
  }
}

/// Replays a log with a power cut after each operation, and counts states that are wrong.
private func failures(
  _ script: CrashScript, sector: Int, samples: Int, exhaustiveLimit: Int = 0,
  excuse: TornExcuse = TornExcuse(isExcused: true), _ random: inout SeededRandom
) throws -> Int {
  var image = CrashImage(sector: sector)
  image.apply(.write(0, script.base))
  image.apply(.sync(withTimes: true))
  var failures = 0
  var states = 0
  let operations = script.store.operations
  for logged in 0...operations.count {
    if logged > 0 { image.apply(operations[logged - 1]) }
    let allowed = script.allowed(after: logged)
    func expect(_ state: [UInt8], thenWrites: Bool = false) throws {
      states += 1
      if try !check(state, script.policy, excuse, allowed: allowed, thenWrites: thenWrites) {
        failures += 1
      }
    }
    if let count = image.stateCount(limit: exhaustiveLimit) {
      for number in 0..<count { try expect(image.state(number), thenWrites: number % 16 == 0) }
    } else {
      try expect(image.complete)
      for sample in 0..<samples { try expect(image.sample(&random), thenWrites: sample == 0) }
    }
  }
  print("power cuts, one file, \(script.policy.name): \(states) states")
  return failures
}

@Suite struct CrashTests {
  @Test(arguments: containerPolicies)
  func everyStateAfterAPowerCutIsACommit(policy: ContentPolicy) throws {
    var random = SeededRandom(for: "power cuts \(policy.name)")
    for round in 0..<SeededRandom.rounds(8) {
      let script = try CrashScript(policy)
      let limit = [6000, 60_000, 500_000][round % 3]
      try script.runRandomly(&random, steps: 40, limit: limit)
      try script.sync()
      for sector in [512, 4096] {
        #expect(try failures(script, sector: sector, samples: 4, &random) == 0, "round \(round)")
      }
    }
  }

  /// A change time may reach the disk later than the data. Where pages are written whole, the session that the newest
  /// commit names is enough.
  @Test(arguments: containerPolicies)
  func everyStateOfAnOldFileIsACommitWhateverItsChangeTime(policy: ContentPolicy) throws {
    var random = SeededRandom(for: "power cuts, old files \(policy.name)")
    for round in 0..<SeededRandom.rounds(8) {
      let limit = [6000, 60_000, 500_000][round % 3]
      let old = try CrashScript(policy)
      try old.runRandomly(&random, steps: 10, limit: limit)
      try old.write([1], at: 0)
      try old.sync()
      try old.commit()
      let script = try CrashScript(after: old)
      try script.runRandomly(&random, steps: 40, limit: limit)
      try script.sync()
      let excuse = TornExcuse(isExcused: false, sessions: [2...2])
      #expect(
        try failures(script, sector: 4096, samples: 4, excuse: excuse, &random) == 0,
        "round \(round)")
    }
  }

  @Test func everyStateOfShortScriptsIsACommit() throws {
    var random = SeededRandom(for: "short scripts")
    let first = try CrashScript(.sealed)
    try first.write(random.bytes(5000), at: 0)
    try first.commit()
    try first.write(random.bytes(100), at: 0)
    try first.sync()
    try first.write(random.bytes(4096), at: 4096)
    try first.commit()
    try first.write(random.bytes(4096), at: 0)
    try first.commit()
    try first.sync()
    try first.truncate(100)
    try first.commit()
    try first.write(random.bytes(50), at: 50)
    try first.sync()
    #expect(try failures(first, sector: 4096, samples: 0, exhaustiveLimit: 5000, &random) == 0)

    let small = try CrashScript(.sealedCompressed)
    for _ in 0..<3 {
      try small.write(random.bytes(200), at: 0)
      try small.commit()
    }
    try small.sync()
    for _ in 0..<3 {
      try small.write(random.bytes(200), at: 100)
      try small.commit()
    }
    try small.sync()
    #expect(try failures(small, sector: 4096, samples: 0, exhaustiveLimit: 5000, &random) == 0)
  }

  @Test(arguments: containerPolicies)
  func aKilledProcessLosesNoCommit(policy: ContentPolicy) throws {
    var random = SeededRandom(for: "kills \(policy.name)")
    for _ in 0..<SeededRandom.rounds(4) {
      let script = try CrashScript(policy)
      try script.runRandomly(&random, steps: 60, limit: 200_000)
      try script.commit()
      var image = CrashImage(sector: 4096)
      for (index, operation) in script.store.operations.enumerated() {
        image.apply(operation)
        guard let last = script.commits.lastIndex(where: { $0.logged <= index + 1 }) else {
          continue
        }
        // Without an excuse: everything written so far is in the file.
        let content = try openContainer(MemoryStore(image.complete), policy).readAll()
        let possible = script.commits[last...].prefix(2).map(\.content)
        #expect(possible.contains(content), "after \(index + 1) operations")
      }
    }
  }

  // MARK: Bugs that the replay must find

  private func findsBug(
    filter: @escaping @Sendable (RecordingStore.Operation) -> RecordingStore.Operation? = { $0 },
    sabotage: (ContainerFile) -> Void = { _ in }
  ) throws -> Bool {
    var random = SeededRandom(for: "switched-on bugs")
    let script = try CrashScript(.sealed, filter: filter)
    for _ in 0..<12 {
      try script.runRandomly(&random, steps: 4, limit: 60_000)
      try script.sync()
      // Commits that are not durable replace each other, beside one that is.
      for _ in 0..<4 {
        try script.write(random.bytes(5000), at: Int.random(in: 0..<50_000, using: &random))
        try script.commit()
        sabotage(script.file)
      }
    }
    return try failures(script, sector: 4096, samples: 6, &random) > 0
  }

  @Test func replayFindsNothingWithoutABug() throws {
    #expect(try !findsBug())
  }

  @Test func replayFindsASkippedSync() throws {
    #expect(
      try findsBug(filter: { operation in
        if case .sync = operation { nil } else { operation }
      }))
  }

  @Test func replayFindsPagesReusedTooEarly() throws {
    #expect(try findsBug(sabotage: { $0.allocator.releaseHeldEarly() }))
  }

  @Test func replayFindsACommitToTheWrongSlot() throws {
    #expect(try findsBug(sabotage: { $0.history.slot = 1 - $0.history.slot }))
  }
}

extension Allocator {
  /// The bug of taking pages for free that the commit before still needs.
  fileprivate func releaseHeldEarly() {
    for extent in held { giveBack(extent) }
    load(free: [], held: [])
  }
}
