import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Container

/// A script of operations, each of which may be tried again after it failed.
private enum Step {
  case write(offset: Int, count: Int, seed: UInt8)
  case truncate(Int)
  case punch(offset: Int, count: Int)
  case commit
  case sync
  case reopen

  func apply(to bytes: inout [UInt8]) {
    switch self {
    case .write(let offset, let count, let seed):
      let end = offset + count
      if end > bytes.count { bytes += [UInt8](repeating: 0, count: end - bytes.count) }
      bytes.replaceSubrange(offset..<end, with: Step.content(count, seed))
    case .truncate(let size):
      if size < bytes.count {
        bytes.removeLast(bytes.count - size)
      } else {
        bytes += [UInt8](repeating: 0, count: size - bytes.count)
      }
    case .punch(let offset, let count):
      let end = min(bytes.count, offset + count)
      if offset < end {
        bytes.replaceSubrange(offset..<end, with: repeatElement(0, count: end - offset))
      }
    case .commit, .sync, .reopen: break
    }
  }

  func run(_ file: inout ContainerFile, _ store: FaultyStore, _ policy: ContentPolicy) throws {
    switch self {
    case .write(let offset, let count, let seed):
      try file.write(Step.content(count, seed), at: UInt64(offset))
    case .truncate(let size): try file.truncate(to: UInt64(size))
    case .punch(let offset, let count):
      try file.punchHole(at: UInt64(offset), count: UInt64(count))
    case .commit: try file.commit(modificationTime: TimeSpec(seconds: 1, nanoseconds: 0))
    case .sync: try file.sync()
    case .reopen:
      try file.commit()
      file = try openContainer(store, policy, session: 1)
    }
  }

  static func content(_ count: Int, _ seed: UInt8) -> [UInt8] {
    var random = SeededRandom(seed: UInt64(seed))
    return seed % 2 == 0 ? random.bytes(count) : [UInt8](repeating: seed, count: count)
  }
}

/// Reaches inline and tree layouts, direct and buffered writes, reuse, held pages, and shrinking.
private let script: [Step] = [
  .write(offset: 0, count: 1000, seed: 1), .commit,
  .write(offset: 0, count: 200_000, seed: 2), .commit,
  .write(offset: 350_000, count: 30_000, seed: 4), .write(offset: 100, count: 9000, seed: 3),
  .sync, .write(offset: 65536, count: 131_072, seed: 6), .commit,
  .punch(offset: 5000, count: 150_000), .write(offset: 262_144, count: 70_000, seed: 5), .commit,
  .reopen, .write(offset: 4096, count: 8192, seed: 8), .commit, .sync,
  .truncate(130_000), .write(offset: 129_000, count: 5000, seed: 9), .commit, .truncate(900_000),
  .write(offset: 899_000, count: 1000, seed: 10), .sync, .truncate(3000), .commit, .reopen,
  .write(offset: 10, count: 20, seed: 11), .sync,
]

@Suite struct FaultTests {
  /// How many store calls the script makes when none fails.
  private func calls(_ policy: ContentPolicy) throws -> Int {
    let store = FaultyStore(MemoryStore())
    var file = try createContainer(store, policy)
    for step in script { try step.run(&file, store, policy) }
    return store.calls
  }

  /// Runs the script with a fault, trying again whatever fails.
  private func run(_ policy: ContentPolicy, _ fault: FaultyStore.Fault) throws {
    let memory = MemoryStore()
    let store = FaultyStore(memory)
    var file = try createContainer(store, policy)
    store.fault = fault
    var bytes: [UInt8] = []
    var committed: [UInt8]?
    var failures = 0
    for step in script {
      while true {
        do {
          try step.run(&file, store, policy)
          break
        } catch ContainerError.io(let error) {
          #expect(error == fault.error)
          failures += 1
          try #require(failures <= fault.count)
          // The last commit is there, whatever failed after it. The failed step may itself have
          // been a commit that was complete but for the time set after it.
          let quiet = SuspendedFault(store)
          defer { quiet.resume() }
          if let committed {
            let copy = try openContainer(MemoryStore(memory.bytes), policy).readAll()
            #expect(copy == committed || copy == bytes, "after \(step)")
          }
        }
      }
      step.apply(to: &bytes)
      switch step {
      case .commit, .sync, .reopen: committed = bytes
      default: break
      }
      let quiet = SuspendedFault(store)
      #expect(try file.readAll() == bytes, "after \(step)")
      try file.expectConsistentPages("after \(step)")
      quiet.resume()
    }
    store.fault = nil
    let file2 = try openContainer(MemoryStore(memory.bytes), policy)
    #expect(try file2.readAll() == bytes)
    #expect(try file2.verify(deep: true) == [])
  }

  @Test(arguments: containerPolicies)
  func everyCallMayFailOnce(policy: ContentPolicy) throws {
    let calls = try calls(policy)
    #expect(calls > 40)
    print("faults, one file, \(policy.name): \(calls) calls fail")
    for call in 0..<calls {
      try run(policy, FaultyStore.Fault(call: call, error: call % 2 == 0 ? .ioError : .noSpace))
    }
  }

  @Test(arguments: containerPolicies)
  func everyWriteMayFailHalfWay(policy: ContentPolicy) throws {
    for call in 0..<(try calls(policy)) {
      try run(
        policy,
        FaultyStore.Fault(
          call: call, count: 1 + call % 3, error: .noSpace, writesOnly: true, writesHalf: true))
    }
  }

  /// A file on the medium, of which calls can be made to fail.
  private static func synced(
    _ content: [UInt8], _ policy: ContentPolicy = .sealed,
    workspace: Workspace = Workspace(writesBehind: true)
  ) throws -> (MemoryStore, FaultyStore, ContainerFile) {
    let memory = MemoryStore()
    let store = FaultyStore(memory)
    let file = try createContainer(store, policy, workspace: workspace)
    try file.write(content, at: 0)
    try file.sync()
    return (memory, store, file)
  }

  @Test func fullDiskKeepsTheLastCommitAndSpaceFreedLaterSuffices() throws {
    let old = Step.content(300_000, 2)
    let (memory, store, file) = try Self.synced(old)
    store.fault = FaultyStore.Fault(call: 0, count: 1_000_000, error: .noSpace, writesOnly: true)
    for _ in 0..<10 {
      #expect(throws: ContainerError.io(.noSpace)) {
        try file.write(Step.content(100_000, 4), at: 0)
        try file.commit()
      }
      try file.expectConsistentPages()
    }
    #expect(try openContainer(MemoryStore(memory.bytes)).readAll() == old)
    store.fault = nil
    try file.write(Step.content(100_000, 4), at: 0)
    try file.sync()
    let expected = Step.content(100_000, 4) + old[100_000...]
    #expect(try openContainer(MemoryStore(memory.bytes)).readAll() == expected)
    // Failed attempts have not made the file grow.
    #expect(memory.bytes.count < 450_000)
  }

  @Test func afterAFailedSyncThePagesAreWrittenAgain() throws {
    // As the kernel does it: a failed fdatasync forgets what was to be written.
    let store = ForgetfulStore()
    let file = try createContainer(store, .sealed)
    try file.write(Step.content(100_000, 2), at: 0)
    try file.sync()
    try file.write(Step.content(50_000, 4), at: 20_000)
    store.failsNextSync = true
    #expect(throws: ContainerError.io(.ioError)) { try file.sync() }
    try file.sync()
    let expected = try file.readAll()
    #expect(try openContainer(MemoryStore(store.medium)).readAll() == expected)
  }

  /// One run of a large write is written while the next is sealed: what fails is the rest from some block on.
  @Test(arguments: containerPolicies) func aWriteOfSeveralRunsFailsAtAnyOfThem(
    policy: ContentPolicy
  ) throws {
    let (old, new) = (Step.content(5 << 20, 2), Step.content(7 << 19, 4))
    var expected = old
    expected.replaceSubrange(131_072..<(131_072 + new.count), with: new)
    var failures = 0
    while true {
      let (memory, store, file) = try Self.synced(old, policy, workspace: Workspace())
      store.fault = FaultyStore.Fault(
        call: failures, error: .ioError, writesOnly: true, writesHalf: true)
      var failure: ContainerError?
      do throws(ContainerError) {
        try file.write(new, at: 131_072)
      } catch {
        failure = error
      }
      guard failure != nil else { break }
      failures += 1
      store.fault = nil
      let now = try file.readAll()
      let taken = zip(now, expected).prefix { $0 == $1 }.count
      let isPrefix = now[taken...].elementsEqual(old[taken...]) && taken < expected.count
      #expect(isPrefix, "failure \(failures)")
      try file.expectConsistentPages()
      try file.write(new, at: 131_072)
      try file.commit()
      try file.expectConsistentPages()
      let isStored = try openContainer(MemoryStore(memory.bytes), policy).readAll() == expected
      #expect(isStored, "failure \(failures)")
    }
    #expect(failures >= 4)
  }

  /// What was answered and then could not be written is in memory, where everything finds it.
  @Test(arguments: ["read", "overwrite", "truncate", "punch", "commit", "write"])
  func whatCouldNotBeWrittenBehindIsKept(next: String) throws {
    var expected = Step.content(300_000, 2)
    let (memory, store, file) = try Self.synced(expected)
    store.fault = FaultyStore.Fault(
      call: 0, count: 1_000_000, error: .noSpace, writesOnly: true, writesHalf: true)
    let new = Step.content(131_072, 4)
    try file.write(new, at: 40_960)
    expected.replaceSubrange(40_960..<(40_960 + new.count), with: new)
    #expect(file.behind != nil)
    switch next {
    case "overwrite":
      try file.write([1, 2, 3], at: 50_000)
      expected.replaceSubrange(50_000..<50_003, with: [1, 2, 3])
    case "truncate":
      try file.truncate(to: 100_000)
      expected.removeSubrange(100_000...)
    case "punch":
      try file.punchHole(at: 45_056, count: 8192)
      expected.replaceSubrange(45_056..<53_248, with: repeatElement(0, count: 8192))
    case "commit":
      #expect(throws: ContainerError.io(.noSpace)) { try file.commit() }
    case "write":
      // Goes on as a write that nothing is left behind of, and so hears of it.
      #expect(throws: ContainerError.io(.noSpace)) { try file.write(new, at: 40_960) }
    default: break
    }
    let isKept = try file.readAll() == expected
    #expect(isKept)
    #expect(file.behind == nil)
    try file.expectConsistentPages()
    #expect(throws: ContainerError.io(.noSpace)) { try file.commit() }
    store.fault = nil
    try file.sync()
    try file.expectConsistentPages()
    let isStored = try openContainer(MemoryStore(memory.bytes)).readAll() == expected
    #expect(isStored)
    try file.write(new, at: 0)
    #expect(file.behind != nil)
  }
}

/// Lets a store work while a test looks at it.
private final class SuspendedFault {
  private let store: FaultyStore
  private let fault: FaultyStore.Fault?
  private let calls: Int

  init(_ store: FaultyStore) {
    self.store = store
    fault = store.fault
    calls = store.calls
    store.fault = nil
  }

  func resume() {
    guard var fault else { return }
    // Counting starts anew, so what was counted is taken off; a fault that is over stays over.
    fault.count = max(0, min(fault.count, fault.call + fault.count - calls))
    fault.call = max(0, fault.call - calls)
    store.fault = fault
  }
}
