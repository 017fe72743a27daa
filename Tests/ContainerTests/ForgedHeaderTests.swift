import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Container

/// Headers that authenticate, but say what no writer would: `compressed` ones can be made by
/// anyone who knows the key's tag, and a faulty writer is not to be believed either.
@Suite struct ForgedHeaderTests {
  /// A container of three blocks whose header was changed and sealed again.
  private func forged(
    _ policy: ContentPolicy, _ change: (inout Header) -> Void
  ) throws -> MemoryStore {
    let store = MemoryStore()
    var random = SeededRandom(seed: 5)
    let file = try createContainer(store, policy)
    try file.write(random.bytes(300_000), at: 0)
    try file.sync()
    var reader = SlotReader(store: store, keys: testKeys)
    try reader.read()
    var header = try #require(reader.slots[0].header)
    let ring = try #require(reader.ring)
    change(&header)
    let scratch = Scratch()
    header.encode(into: scratch.run)
    var cipher = Cipher(ring, isSecret: policy.isSecret)
    try cipher.sealSlot(scratch.run, epoch: header.epoch)
    try store.write(at: 0, from: UnsafeRawBufferPointer(scratch.run.buffer(Format.pageSize)))
    return store
  }

  @Test(arguments: containerPolicies)
  func aPageCountOfAlmostEverythingCostsNothing(policy: ContentPolicy) throws {
    let store = try forged(policy) { $0.pageCount = Format.pageCountLimit - 1 }
    let file = try openContainer(store, policy)
    let before = try file.readAll()
    #expect(try file.verify(deep: true).isEmpty)
    // There is no page left to write to.
    #expect(throws: ContainerError.self) {
      try file.write([UInt8](repeating: 1, count: 200_000), at: 0)
      try file.commit()
    }
    let isSame = try openContainer(store, policy).readAll() == before
    #expect(isSame)
    #expect(store.bytes.count < 1 << 20)
  }

  @Test(arguments: containerPolicies)
  func freeExtentsThatOverlapBeyondTheEndAreDamage(policy: ContentPolicy) throws {
    let store = try forged(policy) {
      $0.pageCount = 1 << 40
      $0.free = [Extent(start: 1 << 30, count: 100), Extent(start: (1 << 30) + 50, count: 100)]
    }
    let file = try openContainer(store, policy)
    #expect(try file.verify(deep: false).map(\.kind) == [.freeListOverlap])
    #expect(throws: ContainerError.self) {
      try file.write([UInt8](repeating: 1, count: 5000), at: 0)
      try file.commit()
    }
  }

  @Test(arguments: containerPolicies)
  func aFreeExtentInUseIsDamage(policy: ContentPolicy) throws {
    let store = try forged(policy) { $0.free = [Extent(start: 3, count: 1)] }
    let file = try openContainer(store, policy)
    #expect(try file.verify(deep: false).map(\.kind) == [.freeListOverlap])
  }
}
