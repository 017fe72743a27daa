import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Container

@Suite struct AllocationTests {
  private func content(_ count: Int, _ seed: UInt64) -> [UInt8] {
    var random = SeededRandom(seed: seed)
    return random.bytes(count)
  }

  @Test(arguments: containerPolicies, [true, false])
  func overwritingForEverKeepsTheFileBounded(policy: ContentPolicy, syncs: Bool) throws {
    let store = MemoryStore()
    let file = try createContainer(store, policy)
    let size = 1 << 20
    try file.write(content(size, 1), at: 0)
    try file.sync()
    var random = SeededRandom(for: "overwrites \(policy.name)")
    for round in 0..<300 {
      let count = [4096, 20_000, 140_000][round % 3]
      try file.write(
        content(count, UInt64(round)),
        at: UInt64(Int.random(in: 0...(size - count), using: &random)))
      if syncs { try file.sync() } else { try file.commit() }
      try file.expectConsistentPages()
    }
    #expect(store.bytes.count < 2 * size + (1 << 20))
    #expect(try file.verify(deep: true) == [])
  }

  @Test func rewritingBeforeTheFirstSyncKeepsTheFileBounded() throws {
    let store = MemoryStore()
    let file = try createContainer(store, .sealed)
    for round in 0..<200 {
      try file.write(content(300_000, UInt64(round)), at: 0)
      try file.commit()
      try file.expectConsistentPages()
    }
    #expect(store.bytes.count < 8 << 20)
  }

  @Test func aSmallFileIsOnePageUntilItIsSyncedAndTwoAfterwards() throws {
    let store = MemoryStore()
    let file = try createContainer(store, .sealed)
    for round in 0..<5 {
      try file.write(content(3904, UInt64(round)), at: 0)
      try file.commit()
      #expect(store.bytes.count == 4096)
    }
    try file.sync()
    try file.write([1], at: 0)
    try file.sync()
    #expect(store.bytes.count == 8192)
    #expect(try openContainer(store).readAll() == file.readAll())
  }

  @Test func fragmentedFreePagesSpillIntoListsAndComeBack() throws {
    let store = MemoryStore()
    let file = try createContainer(store, .sealed)
    let blocks = 4000
    try file.write(content(blocks * 4096, 1), at: 0)
    try file.sync()
    // Every other block goes: 2,000 extents, held for the commit before and then free.
    for block in stride(from: 0, to: blocks, by: 2) {
      try file.punchHole(at: UInt64(block) * 4096, count: 4096)
    }
    try file.sync()
    try file.expectConsistentPages()
    // A sync does without the long list, a commit brings it.
    try file.write([1], at: 4096)
    try file.sync()
    #expect(file.listPages.isEmpty && file.isDirty)
    try file.expectConsistentPages()
    #expect(try openContainer(MemoryStore(store.bytes)).verify(deep: true) == [])
    try file.commit()
    #expect(file.listPages.pageCount > 4 && !file.isDirty)
    try file.expectConsistentPages()
    var reopened = try openContainer(store)
    try reopened.write([2], at: 4096)
    try reopened.sync()
    try reopened.commit()
    try reopened.expectConsistentPages()
    let grown = store.bytes.count
    reopened = try openContainer(store, session: 3)
    #expect(try reopened.verify(deep: true) == [])
    for block in stride(from: 0, to: blocks, by: 2) {
      try reopened.write(content(4096, 3), at: UInt64(block) * 4096)
    }
    try reopened.sync()
    try reopened.expectConsistentPages()
    #expect(store.bytes.count < grown + (1 << 20))
  }

  @Test(arguments: [0, 3000, 5000]) func spaceOfACutFileIsGivenBackAfterASync(size: Int) throws {
    let folder = try TemporaryDirectory()
    let descriptor = SharedFD(try folder.makeFile("container"))
    let file = try createContainer(FileBlockStore(descriptor), .sealed)
    let old = content(8 << 20, 1)
    try file.write(old, at: 0)
    try file.sync()
    try file.truncate(to: UInt64(size))
    try file.sync()
    #expect(file.isDirty)
    try file.commit()
    #expect(!file.isDirty && file.isDurable)
    // What remains may lie at the end of the file, with a hole before it.
    #expect(try Sys.fstatx(descriptor.rawValue).blocks * 512 < 64 << 10)
    #expect(try openContainer(FileBlockStore(descriptor)).readAll() == Array(old[..<size]))
  }

  @Test func sparseFilesOfAnyDepthStaySmall() throws {
    let store = MemoryStore()
    let file = try createContainer(store, .sealed)
    let offsets: [UInt64] = [0, 1 << 22, 1 << 30, 1 << 40, 1 << 50, (1 << 57) - 4096]
    for offset in offsets {
      try file.write(content(4096, offset), at: offset)
      try file.commit()
    }
    #expect(store.bytes.count < 1 << 20)
    #expect(throws: ContainerError.tooLarge) { try file.write([1], at: 1 << 57) }
    #expect(throws: ContainerError.tooLarge) { try file.truncate(to: (1 << 57) + 1) }
    let reopened = try openContainer(store)
    #expect(reopened.size == 1 << 57)
    for (offset, next) in zip(offsets, offsets.dropFirst()) {
      #expect(try reopened.read(at: offset, count: 4096) == content(4096, offset))
      #expect(try reopened.nextHole(from: offset) == offset + 4096)
      #expect(try reopened.nextData(from: offset + 4096) == next)
    }
    #expect(try reopened.verify(deep: true) == [])
    for offset in offsets.reversed() {
      try reopened.truncate(to: offset + 4096)
      try reopened.commit()
      try reopened.expectConsistentPages()
    }
    #expect(reopened.tree.depth == 0)
    #expect(try reopened.read(at: 0, count: 5000) == content(4096, 0))
  }

  @Test func keysMoveOnLongBeforeTheyWearOut() throws {
    let store = MemoryStore()
    let file = try createContainer(store, .sealed)
    file.pages.sealsPerEpoch = 100
    for round in 0..<10 {
      try file.write(content(200_000, UInt64(round)), at: UInt64(round) * 150_000)
      try file.sync()
    }
    #expect(file.pages.limits.epoch > 4)
    let reopened = try openContainer(store)
    #expect(try reopened.readAll() == file.readAll())
    #expect(try reopened.verify(deep: true) == [])
  }

  @Test func bindingsArePartOfACommit() throws {
    let store = MemoryStore()
    let file = try createContainer(store, .sealed)
    try file.write(content(3900, 1), at: 0)
    try file.sync()
    let names = (0..<17).map { Binding([UInt8](repeating: UInt8($0), count: 16)) }
    for name in names[..<15] { file.addBinding(name) }
    file.removeBinding(names[3])
    #expect(file.isDirty)
    #expect(try openContainer(MemoryStore(store.bytes)).bindings == [testBinding])
    try file.commit()
    let reopened = try openContainer(store)
    #expect(reopened.bindings == file.bindings && reopened.bindings.count == 14)
    #expect(!reopened.bindingsOverflow)
    #expect(try reopened.readAll() == content(3900, 1))
    for name in names { reopened.addBinding(name) }
    try reopened.commit()
    #expect(try openContainer(store).bindingsOverflow)
  }

  @Test func whatShrinksIsCompressedAndWhatDoesNotIsStoredAsItIs() throws {
    let zeros = MemoryStore()
    let file = try createContainer(zeros, .sealedCompressed)
    try file.write([UInt8](repeating: 5, count: 8 << 20), at: 0)
    try file.commit()
    #expect(zeros.bytes.count < 512 << 10)
    let noise = MemoryStore()
    let other = try createContainer(noise, .sealedCompressed)
    try other.write(content(8 << 20, 1), at: 0)
    try other.commit()
    #expect(noise.bytes.count < (8 << 20) + (64 << 10))
  }

  @Test func theModificationTimeIsSetAfterACommit() throws {
    let store = MemoryStore()
    let file = try createContainer(store, .sealed)
    let time = TimeSpec(seconds: 123, nanoseconds: 456)
    #expect(try file.commit(modificationTime: time))
    #expect(store.modificationTime == time)
    #expect(try !file.commit(modificationTime: TimeSpec(seconds: 9, nanoseconds: 9)))
    #expect(store.modificationTime == time)
  }

  @Test func readersRunBesideWritersAndSeeWholeWrites() throws {
    let workspace = Workspace(budget: DirtyBudget(limit: 1 << 20), nodeLimit: 2)
    let file = try createContainer(MemoryStore(), .sealed, workspace: workspace)
    let block = 100_000
    try file.write([UInt8](repeating: 0, count: 40 * block), at: 0)
    try file.sync()
    let torn = ThreadRunner.run(count: 4) { thread in
      var random = SeededRandom(seed: UInt64(thread))
      for round in 0..<SeededRandom.rounds(150) {
        let offset = UInt64(Int.random(in: 0..<40, using: &random) * block)
        if thread == 0 {
          try file.write([UInt8](repeating: UInt8(round & 0xFF), count: block), at: offset)
          if round % 8 == 0 { try file.sync() }
        } else {
          let bytes = try file.read(at: offset, count: block)
          if !bytes.allSatisfy({ $0 == bytes[0] }) { return false }
        }
      }
      return true
    }
    #expect(torn == [true, true, true, true])
  }
}
