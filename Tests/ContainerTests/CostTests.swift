import AllocationCounter
import Primitives
import TestSupport
import Testing

@testable import Container

/// What operations cost: calls on the backing file, and memory asked for.
@Suite struct CostTests {
  private func content(_ count: Int, _ seed: UInt64) -> [UInt8] {
    var random = SeededRandom(seed: seed)
    return random.bytes(count)
  }

  /// What a power cut is told by, the change time, has to be on the disk with the first sync.
  @Test func theFirstSyncTakesTheTimesAlong() throws {
    let bytes = try {
      let store = RecordingStore()
      let file = try createContainer(store, .sealed)
      try file.write(content(9000, 1), at: 0)
      try file.sync()
      return store.bytes
    }()
    let store = RecordingStore(bytes)
    let file = try openContainer(store)
    for round in 0..<3 as Range<UInt64> {
      try file.write(content(100, round), at: 0)
      try file.sync()
    }
    let syncs = store.operations.compactMap { operation in
      if case .sync(let withTimes) = operation { withTimes } else { nil }
    }
    #expect(syncs == [true, false, false])
  }

  @Test func aSyncedOverwriteIsThreeWritesAndOneSync() throws {
    let store = RecordingStore()
    let file = try createContainer(store, .sealed)
    let blocks: UInt64 = 1024
    try file.write(content(Int(blocks) * 4096, 1), at: 0)
    try file.sync()
    // Free pages are scattered by now, as in a database that has been used for a while.
    for round in 0..<400 as Range<UInt64> {
      try file.write(content(4096, round), at: round * 379 % blocks * 4096)
      if round % 100 == 99 { try file.sync() }
    }
    for round in 0..<50 as Range<UInt64> {
      try file.write(content(4096, round), at: round * 211 % blocks * 4096)
      let before = store.count
      try file.sync()
      var writes = 0
      var syncs = 0
      var others = 0
      for operation in store.operations[before...] {
        switch operation {
        case .write: writes += 1
        case .sync: syncs += 1
        case .truncate: others += 1
        }
      }
      // The block, the node above it, and the header.
      #expect(writes == 3 && syncs == 1 && others == 0)
    }
    try file.commit()
    #expect(!file.isDirty)
    #expect(try openContainer(store).verify(deep: true) == [])
  }

  /// A file of one block that compresses takes the pages that its compressed bytes fill, and its header.
  @Test(arguments: [(5000, 5000, 1), (60_000, 100, 0), (60_000, 14_000, 3), (8000, 0, 0)])
  func aCompressedFileOfOneBlockWastesNoPage(size: Int, random: Int, pages: Int) throws {
    let store = MemoryStore()
    let file = try createContainer(store, .sealedCompressed)
    let bytes = content(random, 3) + [UInt8](repeating: 7, count: size - random)
    try file.write(bytes, at: 0)
    try file.commit()
    // The second slot's page is a hole.
    #expect(store.bytes.count == (pages == 0 ? 1 : pages + 2) * 4096)
    let again = try openContainer(store).readAll() == bytes
    #expect(again)
  }

  /// A request, and how often it may ask for memory when everything is warm. The numbers are no larger for
  /// more blocks: what large requests need is for sharing them among processors.
  struct Allowance: Sendable, CustomTestStringConvertible {
    var policy: ContentPolicy
    var count: Int
    var reads: UInt64
    var writes: UInt64

    var testDescription: String { "\(policy.name), \(count) bytes" }
  }

  static let allowances = [
    Allowance(policy: .sealed, count: 4096, reads: 3, writes: 2),
    Allowance(policy: .sealed, count: 128 << 10, reads: 3, writes: 7),
    Allowance(policy: .sealed, count: 1 << 20, reads: 12, writes: 14),
    Allowance(policy: .sealedCompressed, count: 128 << 10, reads: 3, writes: 2),
    Allowance(policy: .sealedCompressed, count: 1 << 20, reads: 12, writes: 12),
  ]

  @Test(
    .enabled(if: counts_allocations() != 0, "sanitizers bring an allocator of their own"),
    arguments: allowances)
  func warmRequestsAllocateNothingForTheirBlocks(
    _ allowance: Allowance
  ) throws {
    let folder = try TemporaryDirectory()
    let store = FileBlockStore(SharedFD(try folder.makeFile("container")))
    let file = try createContainer(store, allowance.policy)
    let requests = 8
    let size = requests * allowance.count
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
    defer { memory.deallocate() }
    // Blocks that compress well.
    let pattern = content(512, 1)
    let bytes = (0..<size).map { pattern[$0 % pattern.count] }
    memory.copyBytes(from: bytes)
    let source = UnsafeRawBufferPointer(memory)
    try file.write(at: 0, from: source)
    try file.sync()

    func least(_ request: (Int) throws -> Void) rethrows -> UInt64 {
      var least = UInt64.max
      for index in 0..<requests {
        let before = allocation_count()
        try request(index * allowance.count)
        least = min(least, allocation_count() - before)
      }
      return least
    }
    let writes = try least { offset in
      try file.write(
        at: UInt64(offset), from: .init(rebasing: source[offset..<(offset + allowance.count)]))
    }
    try file.sync()
    let reads = try least { offset in
      let range = offset..<(offset + allowance.count)
      let part = UnsafeMutableRawBufferPointer(rebasing: memory[range])
      let count = try file.read(at: UInt64(offset), into: part)
      #expect(count == allowance.count)
    }
    #expect(writes <= allowance.writes, "\(writes)")
    #expect(reads <= allowance.reads, "\(reads)")
    let isSame = memory.elementsEqual(bytes)
    #expect(isSame)
    let before = allocation_count()
    let probe = UnsafeMutableRawPointer.allocate(byteCount: 100, alignment: 8)
    #expect(allocation_count() == before + 1)
    probe.deallocate()
  }

  @Test(arguments: containerPolicies) func damageInALargeReadIsFoundWhereverItIs(
    _ policy: ContentPolicy
  ) throws {
    let size = 1 << 20
    let made = MemoryStore()
    let file = try createContainer(made, policy)
    let bytes = content(size, 5)
    try file.write(bytes, at: 0)
    try file.commit()
    let isSame = try openContainer(made).read(at: 0, count: size) == bytes
    #expect(isSame)
    let length = made.bytes.count
    for place in stride(from: 3 * 4096 + 17, to: length - 4096, by: 37 * 4096) {
      var damaged = made.bytes
      damaged[place] ^= 1
      let opened = try openContainer(MemoryStore(damaged))
      #expect(throws: ContainerError.self) { try opened.read(at: 0, count: size) }
    }
  }
}
