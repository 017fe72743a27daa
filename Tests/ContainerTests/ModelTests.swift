import Primitives
import TestSupport
import Testing

@testable import Container

/// Random operations on a container and on an array, which must stay the same.
private struct Model {
  let policy: ContentPolicy
  let limit: Int
  let store = MemoryStore()
  let workspace: Workspace
  var file: ContainerFile
  var bytes: [UInt8] = []
  var random: SeededRandom
  var session: UInt64 = 1

  init(_ policy: ContentPolicy, limit: Int, budget: Int, nodeLimit: Int, purpose: String) throws {
    self.policy = policy
    self.limit = limit
    workspace = Workspace(
      budget: DirtyBudget(limit: budget), nodeLimit: nodeLimit, compressionLevel: 1,
      writesBehind: true)
    random = SeededRandom(for: purpose)
    file = try createContainer(store, policy, workspace: workspace)
  }

  mutating func number(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

  /// An offset that is often near a page, block, or the end.
  mutating func offset(upTo end: Int) -> Int {
    switch number(0..<6) {
    case 0: return number(0..<(end + 1))
    case 1: return min(end, bytes.count)
    case 2: return min(end, max(0, bytes.count - number(0..<5000)))
    case 3: return min(end, number(0..<(end / 4096 + 1)) * 4096)
    case 4: return min(end, max(0, number(0..<(end / 4096 + 1)) * 4096 + number(0..<3) - 1))
    default: return min(end, number(0..<(end / 131072 + 1)) * 131072)
    }
  }

  mutating func length() -> Int {
    switch number(0..<8) {
    case 0: number(1..<16)
    case 1: 4096
    case 2: 65536 + number(0..<3) * 4096
    case 3: number(1..<100_000)
    case 4: 3904 + number(0..<3) - 1
    default: number(1..<9000)
    }
  }

  mutating func content(_ count: Int) -> [UInt8] {
    if random.chance(oneIn: 2) { return random.bytes(count) }
    return [UInt8](repeating: UInt8(truncatingIfNeeded: random.next()), count: count)
  }

  mutating func put(_ content: [UInt8], at offset: Int) {
    let end = offset + content.count
    if end > bytes.count { bytes += [UInt8](repeating: 0, count: end - bytes.count) }
    bytes.replaceSubrange(offset..<end, with: content)
  }

  mutating func step() throws {
    switch number(0..<32) {
    case 0..<10:
      let offset = offset(upTo: limit - 1)
      let content = content(min(length(), limit - offset))
      try file.write(content, at: UInt64(offset))
      put(content, at: offset)
    case 10..<20:
      let offset = offset(upTo: bytes.count + 100)
      let count = length()
      let read = try file.read(at: UInt64(offset), count: count)
      let expected = offset < bytes.count ? bytes[offset..<min(bytes.count, offset + count)] : []
      #expect(read.elementsEqual(expected), "read \(count) at \(offset)")
    case 20..<22:
      let size = random.chance(oneIn: 4) ? number(0..<5000) : offset(upTo: limit)
      try file.truncate(to: UInt64(size))
      if size < bytes.count {
        bytes.removeLast(bytes.count - size)
      } else {
        bytes += [UInt8](repeating: 0, count: size - bytes.count)
      }
    case 22..<24: try zero()
    case 24..<26: try seek()
    case 26..<29: try commit()
    case 29: try commit(sync: true)
    default: if random.chance(oneIn: 3) { try reopen() }
    }
    #expect(file.size == UInt64(bytes.count))
  }

  mutating func zero() throws {
    let offset = offset(upTo: limit)
    let count = random.chance(oneIn: 3) ? number(0..<limit) : length()
    let end = min(limit, offset + count)
    let extends = random.chance(oneIn: 3)
    if extends {
      try file.zeroRange(at: UInt64(offset), count: UInt64(end - offset), keepSize: false)
      if end > bytes.count { bytes += [UInt8](repeating: 0, count: end - bytes.count) }
    } else {
      try file.punchHole(at: UInt64(offset), count: UInt64(end - offset))
    }
    let last = min(end, bytes.count)
    if offset < last {
      bytes.replaceSubrange(offset..<last, with: repeatElement(0, count: last - offset))
    }
  }

  mutating func seek() throws {
    let offset = offset(upTo: bytes.count)
    let data = try file.nextData(from: UInt64(offset)).map(Int.init)
    let hole = try file.nextHole(from: UInt64(offset)).map(Int.init)
    #expect(bytes[offset..<(data ?? bytes.count)].allSatisfy { $0 == 0 }, "data in a hole")
    #expect((hole == nil) == (offset >= bytes.count))
    if let hole, hole < bytes.count {
      let end = try file.nextData(from: UInt64(hole)).map(Int.init) ?? bytes.count
      #expect(hole >= offset && end > hole)
      #expect(bytes[hole..<end].allSatisfy { $0 == 0 }, "data in a hole")
    }
  }

  mutating func commit(sync: Bool = false) throws {
    _ = try sync ? file.sync() : file.commit()
    try file.expectConsistentPages()
  }

  mutating func reopen() throws {
    try file.commit()
    let known = file.known
    if random.chance(oneIn: 2) { session += 1 }
    file = try openContainer(
      store, policy, session: session, known: random.chance(oneIn: 2) ? known : nil,
      workspace: workspace)
    #expect(!file.healed && file.policy == policy && file.bindings == [testBinding])
  }
}

@Suite struct ModelTests {
  @Test(arguments: containerPolicies)
  func containerModel(policy: ContentPolicy) throws {
    // Small budgets and few cached nodes, so that writing out and reading back happen often.
    let limits = [5000, 60_000, 300_000, 1_500_000]
    let shares = policy == .sealed ? [12, 40, 50, 8] : [12, 40, 12, 4]
    for (limit, share) in zip(limits, shares) {
      var model = try Model(
        policy, limit: limit, budget: limit / 3, nodeLimit: 2,
        purpose: "model \(policy.name) \(limit)")
      for _ in 0..<(SeededRandom.rounds(1000) * share) { try model.step() }
      try model.commit()
      #expect(try model.file.readAll() == model.bytes)
      #expect(try model.file.verify(deep: true) == [])
      #expect(model.workspace.budget.used <= 4096)
    }
  }
}
