import Primitives
import TestSupport
import Testing

@testable import Container

/// Free pages that a crash between a sync and a commit lost.
@Suite struct ReclaimTests {
  private static let blocks = 200

  /// A backing file as a kill leaves it whose last sync stated a part of the free pages only, and its content.
  private func losing(_ policy: ContentPolicy) throws -> (image: [UInt8], content: [UInt8]) {
    let store = MemoryStore()
    let file = try createContainer(store, policy)
    let size = policy.blockSize
    var random = SeededRandom(for: "lost pages \(policy.name)")
    try file.write(random.bytes(ReclaimTests.blocks * size), at: 0)
    try file.sync()
    try file.commit()
    for block in stride(from: 0, to: ReclaimTests.blocks, by: 2) {
      try file.punchHole(at: UInt64(block * size), count: UInt64(size))
    }
    try file.sync()
    try file.write([1], at: UInt64(size))
    try file.sync()
    #expect(file.isListPartial)
    return (store.bytes, try file.readAll())
  }

  @Test(arguments: containerPolicies)
  func lostPagesAreFoundAndFreeAgain(policy: ContentPolicy) throws {
    let (image, content) = try losing(policy)
    let store = MemoryStore(image)
    var file = try openContainer(store, policy, session: 2)
    #expect(try file.verify(deep: false).isEmpty)
    let lost = file.lostPages
    #expect(lost > 30)
    try file.reclaim()
    try file.commit()
    try file.sync()
    try file.commit()
    try file.expectConsistentPages()
    #expect(store.bytes.count <= image.count + 16 * 4096)

    file = try openContainer(store, policy, session: 3)
    #expect(try file.verify(deep: true).isEmpty)
    #expect(file.lostPages == 0)
    let isSame = try file.readAll() == content
    #expect(isSame)
    // They are used before the file grows.
    let length = store.bytes.count
    try file.write([UInt8](repeating: 7, count: Int(min(lost, 20)) << 12), at: 0)
    try file.sync()
    try file.expectConsistentPages()
    #expect(store.bytes.count <= length + 16 * 4096)
  }

  @Test func aTailThatNoCommitKnowsIsCutOff() throws {
    let (image, content) = try losing(.sealed)
    let store = MemoryStore(image + [UInt8](repeating: 5, count: 300 * 4096))
    let file = try openContainer(store, session: 2)
    #expect(try file.verify(deep: true).isEmpty)
    #expect(file.lostPages > 300)
    try file.reclaim()
    try file.commit()
    #expect(store.bytes.count <= image.count + 16 * 4096)
    let isSame = try openContainer(store, session: 3).readAll() == content
    #expect(isSame)
  }

  @Test func whatIsReclaimedTwiceOrTooLateIsNot() throws {
    let (image, _) = try losing(.sealed)
    let file = try openContainer(MemoryStore(image), session: 2)
    #expect(try file.verify(deep: false).isEmpty)
    try file.write([1], at: 0)
    try file.commit()
    try file.reclaim()
    #expect(!file.hasChanges)
    #expect(try file.verify(deep: false).isEmpty)
    try file.reclaim()
    try file.reclaim()
    try file.commit()
    try file.expectConsistentPages()
    #expect(try file.verify(deep: false).isEmpty)
    #expect(file.lostPages == 0)
  }

  /// The other slot's tree may use a lost page: reclaiming harms neither before the next commit is on the medium.
  @Test(arguments: containerPolicies)
  func everyStateAfterAPowerCutMeanwhileHoldsTheContent(policy: ContentPolicy) throws {
    let (image, content) = try losing(policy)
    let store = RecordingStore(image)
    let file = try openContainer(store, policy, session: 2)
    #expect(try file.verify(deep: false).isEmpty)
    try file.reclaim()
    try file.commit()
    let reclaimed = store.count
    try file.sync()
    try file.commit()
    var changed = content
    for block in stride(from: 0, to: 40, by: 2) {
      let new = [UInt8](repeating: UInt8(block), count: 4096)
      try file.write(new, at: UInt64(block * policy.blockSize))
      let start = block * policy.blockSize
      changed.replaceSubrange(start..<(start + new.count), with: new)
    }
    try file.sync()

    var random = SeededRandom(for: "cuts while reclaiming \(policy.name)")
    for sector in [512, 4096] {
      var cut = CrashImage(sector: sector)
      cut.apply(.write(0, image))
      cut.apply(.sync(withTimes: true))
      var states = 0
      for (index, operation) in store.operations.enumerated() {
        cut.apply(operation)
        for sample in 0..<SeededRandom.rounds(4) {
          let state = sample == 0 ? cut.complete : cut.sample(&random)
          let opened = try openContainer(
            MemoryStore(state), policy, session: 3, excuse: TornExcuse(isExcused: true))
          let found = try opened.readAll()
          let isWhole = found == content || (index >= reclaimed && found == changed)
          #expect(isWhole, "after \(index + 1) operations")
          #expect(try opened.verify(deep: true).isEmpty, "after \(index + 1) operations")
          states += 1
        }
      }
      print("power cuts, lost pages, \(policy.name): \(states) states")
    }
  }

  @Test func gapsAreWhatIsNotInASet() {
    var random = SeededRandom(for: "gaps")
    for _ in 0..<200 {
      var set = PageSet()
      for _ in 0..<Int.random(in: 0..<12, using: &random) {
        set.insert(
          Extent(
            start: UInt64.random(in: 0..<20_000, using: &random),
            count: UInt64.random(in: 1..<3000, using: &random)))
      }
      let range = Extent(
        start: UInt64.random(in: 0..<9000, using: &random),
        count: UInt64.random(in: 1..<20_000, using: &random))
      var expected: [Extent] = []
      for page in range.start..<range.end where !set.contains(page) {
        expected.appendJoining(Extent(start: page, count: 1))
      }
      #expect(set.gaps(in: range) == expected)
    }
    // However far the range goes.
    #expect(PageSet().gaps(in: Extent(start: 2, count: 1 << 51)).pageCount == 1 << 51)
  }
}
