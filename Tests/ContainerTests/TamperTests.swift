import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Container

/// What reading a changed backing file may give: an error, or the content.
private func expectDamagedOrSame(
  _ image: [UInt8], _ policy: ContentPolicy, _ content: [UInt8], _ comment: Comment
) {
  do {
    let file = try openContainer(MemoryStore(image), policy)
    let read = try file.readAll()
    // Compared first: the difference of long arrays takes the macro for ever.
    let isSame = read == content
    #expect(isSame, comment)
  } catch ContainerError.damaged {
    return
  } catch {
    Issue.record(error, comment)
  }
}

private func image(_ policy: ContentPolicy, _ steps: [[UInt8]], synced: Bool = true) throws
  -> [UInt8]
{
  let store = MemoryStore()
  let file = try createContainer(store, policy)
  for content in steps {
    try file.truncate(to: 0)
    try file.write(content, at: 0)
    if synced { try file.sync() } else { try file.commit() }
  }
  try file.commit()
  return store.bytes
}

@Suite struct TamperTests {
  private let text = Array("The quick brown fox jumps over the lazy dog. ".utf8)

  private func content(_ count: Int) -> [UInt8] { (0..<count).map { text[$0 % text.count] } }

  @Test(arguments: containerPolicies, [300, 60_000])
  func everyFlippedByteOfAFileInItsHeaderIsDamage(policy: ContentPolicy, size: Int) throws {
    // What does not compress is not in the header.
    if size > 4096, !policy.isCompressed { return }
    let expected = content(size)
    let original = try image(policy, [expected])
    #expect(original.count == 4096)
    for position in original.indices {
      var changed = original
      changed[position] ^= 1 << UInt8(position % 8)
      #expect(throws: ContainerError.self) {
        _ = try openContainer(MemoryStore(changed), policy).readAll()
      }
    }
  }

  @Test(arguments: containerPolicies)
  func flippedBytesOfATreeAreDamageOrUnused(policy: ContentPolicy) throws {
    var random = SeededRandom(for: "flips \(policy.name)")
    // Random content stays long under compression; two commits fill both slots.
    let expected = random.bytes(30_000)
    let original = try image(policy, [content(9000), expected])
    for position in stride(from: 0, to: original.count, by: 7) {
      var changed = original
      changed[position] ^= 1 << UInt8(random.next() % 8)
      expectDamagedOrSame(changed, policy, expected, "byte \(position)")
    }
  }

  @Test(arguments: containerPolicies)
  func pagesMovedZeroedOrFromAnOlderVersionAreDamageOrUnused(policy: ContentPolicy) throws {
    var random = SeededRandom(for: "pages \(policy.name)")
    let store = MemoryStore()
    let file = try createContainer(store, policy)
    try file.write(random.bytes(180_000), at: 0)
    try file.sync()
    let older = store.bytes
    try file.write(random.bytes(50_000), at: 70_000)
    try file.sync()
    try file.commit()
    let expected = try file.readAll()
    let original = store.bytes
    let pages = original.count / 4096
    func page(_ bytes: [UInt8], _ index: Int) -> ArraySlice<UInt8> {
      bytes[(index * 4096)..<((index + 1) * 4096)]
    }
    for index in 0..<pages {
      var zeroed = original
      zeroed.replaceSubrange(
        (index * 4096)..<((index + 1) * 4096), with: repeatElement(0, count: 4096))
      expectDamagedOrSame(zeroed, policy, expected, "page \(index) zeroed")
      var swapped = original
      let other = Int.random(in: 0..<pages, using: &random)
      swapped.replaceSubrange((index * 4096)..<((index + 1) * 4096), with: page(original, other))
      swapped.replaceSubrange((other * 4096)..<((other + 1) * 4096), with: page(original, index))
      // Swapping the header slots changes nothing.
      expectDamagedOrSame(
        swapped, policy, expected, "pages \(index) and \(other) swapped")
      if index < older.count / 4096 {
        var mixed = original
        mixed.replaceSubrange((index * 4096)..<((index + 1) * 4096), with: page(older, index))
        expectDamagedOrSame(mixed, policy, expected, "page \(index) of an older version")
      }
      expectDamagedOrSame(
        Array(original[..<(index * 4096)]), policy, expected, "cut at page \(index)")
    }
  }

  /// Sizes of the commits of a file. Each is synced; the last is repeated where it has to be.
  @Test(arguments: [
    [9000, 5000], [9000, 5000, 7000], [300, 200], [300, 200, 100], [300, 9000],
  ])
  func aNewerCommitCannotBeHidden(sizes: [Int]) throws {
    let original = try image(.sealed, sizes.map(content))
    #expect(throws: ContainerError.self) {
      _ = try openContainer(MemoryStore(Array(original[..<4096])))
    }
    for slot in 0..<2 {
      for zeroed in [true, false] {
        var changed = original
        let range = (slot * 4096)..<((slot + 1) * 4096)
        if zeroed {
          changed.replaceSubrange(range, with: repeatElement(0, count: 4096))
        } else {
          changed[slot * 4096 + 200] ^= 1
        }
        #expect(throws: ContainerError.self) { _ = try openContainer(MemoryStore(changed)) }
      }
    }
  }

  @Test func aFirstCommitIsReplacedOnceTheSecondIsDurable() throws {
    let store = RecordingStore()
    let file = try createContainer(store, .sealed)
    try file.write(content(300), at: 0)
    try file.sync()
    try file.write(content(200), at: 50)
    try file.commit()
    // The first is the only durable one, so it has to stay.
    #expect(file.isExposed && !file.isDirty)
    try file.sync()
    #expect(file.isExposed && file.isDirty)
    let cut = MemoryStore(store.bytes)
    let before = store.count
    try file.commit()
    #expect(!file.isExposed && !file.isDirty && file.isDurable && store.count == before + 1)
    try file.sync()
    #expect(!file.isDirty)
    // A writer that was cut short here leaves it to the next.
    let reopened = try openContainer(cut, session: 3)
    #expect(reopened.isExposed && !reopened.isDirty)
    reopened.endExposure()
    try reopened.commit()
    #expect(try !openContainer(cut).isExposed && reopened.readAll() == file.readAll())
  }

  @Test func anOlderStatePutBackWithinASessionIsDamage() throws {
    let store = MemoryStore()
    let file = try createContainer(store, .sealed)
    try file.write(content(300), at: 0)
    try file.sync()
    let older = store.bytes
    try file.write(content(200), at: 0)
    try file.sync()
    #expect(throws: ContainerError.damaged(Damage(.rolledBack, page: 0))) {
      _ = try openContainer(MemoryStore(older), session: 1, known: file.known)
    }
    #expect(try openContainer(store, session: 1, known: file.known).readAll() == file.readAll())
    // Another file that has the inode number by now.
    let young = MemoryStore(try image(.sealed, [content(10)]))
    #expect(try openContainer(young, session: 1, known: file.known).readAll() == content(10))
  }

  @Test func containersOfOtherKeysOrSuitesAreDamage() throws {
    let original = try image(.sealed, [content(100)])
    let otherKeys = ContainerKeys(
      contentRoot: SecretBytes(copying: [UInt8](1..<33)), suite: testKeys.suite)
    let otherSuite = ContainerKeys(
      contentRoot: SecretBytes(copying: [UInt8](0..<32)),
      suite: testKeys.suite == .aes256GCM ? .chaCha20Poly1305 : .aes256GCM)
    for keys in [otherKeys, otherSuite] {
      #expect(throws: ContainerError.self) {
        _ = try ContainerFile.open(
          store: MemoryStore(original), keys: keys, parameters: testParameters(.sealed),
          excuse: .none, workspace: Workspace())
      }
    }
  }

  @Test func compressedContainersAreReadWithoutAKeyAndSecretOnesAreNot() throws {
    let expected = content(300_000)
    let keys = ContainerKeys.unverified(suite: testKeys.suite)
    func open(_ policy: ContentPolicy) throws -> ContainerFile {
      try ContainerFile.open(
        store: MemoryStore(try image(policy, [expected])), keys: keys,
        parameters: testParameters(policy), excuse: .none, workspace: Workspace())
    }
    let file = try open(.compressed)
    #expect(try file.readAll() == expected)
    #expect(throws: ContainerError.keyMissing) {
      try file.write([1], at: 0); try file.commit()
    }
    #expect(throws: ContainerError.keyMissing) { try open(.sealed) }
    #expect(throws: ContainerError.keyMissing) { try open(.sealedCompressed) }
  }

  @Test(arguments: containerPolicies)
  func randomBytesNeverTrap(policy: ContentPolicy) throws {
    var random = SeededRandom(for: "random bytes \(policy.name)")
    let keys = [testKeys, ContainerKeys.unverified(suite: testKeys.suite)]
    let original = try image(policy, [content(9000), random.bytes(50_000)])
    for round in 0..<SeededRandom.rounds(3000) {
      var bytes = round % 4 == 0 ? random.bytes(16384) : original
      for _ in 0..<Int.random(in: 1..<20, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8(random.next() & 0xFF)
        // Fields of the header, which an `unverified` reader takes as they are.
        bytes[Int.random(in: 80..<700, using: &random)] = UInt8(random.next() & 0xFF)
      }
      let policies: (ContentPolicy) -> ContainerParameters = { testParameters($0) }
      for (keys, excused) in [(keys[0], true), (keys[1], false)] {
        let file = try? ContainerFile.open(
          store: MemoryStore(bytes), keys: keys, parameters: policies(policy),
          excuse: TornExcuse(isExcused: excused), workspace: Workspace())
        guard let file else { continue }
        _ = try? file.read(at: 0, count: 70_000)
        _ = try? file.read(at: file.size / 2, count: 5000)
        _ = try? file.nextHole(from: 0)
        _ = try? file.verify(deep: true)
        _ = try? file.truncate(to: 4096)
      }
    }
  }
}
