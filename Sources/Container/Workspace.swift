import Primitives
import Synchronization

/// Bounds the bytes that wait in memory to be written, over all containers of a mount.
public final class DirtyBudget: Sendable {
  /// How many bytes may wait. A container that finds more writes its own out first; each may
  /// exceed the limit by one request.
  public let limit: Int
  private let bytes = Atomic<Int>(0)

  /// Sets the limit.
  ///
  /// - Parameter limit: In bytes.
  public init(limit: Int = 64 << 20) {
    self.limit = limit
  }

  /// Bytes that wait now.
  public var used: Int { bytes.load(ordering: .relaxed) }

  var isExhausted: Bool { used >= limit }

  func take(_ count: Int) { bytes.add(count, ordering: .relaxed) }

  func giveBack(_ count: Int) { bytes.subtract(count, ordering: .relaxed) }
}

/// What the containers of one mount share: the dirty budget, the bound on cached nodes, and
/// scratch memory.
public final class Workspace: Sendable {
  /// Bounds the dirty bytes.
  public let budget: DirtyBudget
  /// How many decoded nodes (5 KiB each) all containers may cache; each may keep 64 in any case.
  public let nodeLimit: Int
  /// zstd level of compressed containers.
  public let compressionLevel: Int
  /// Blocks that reads wanted, and whether their content was in memory.
  public let blockCache = CacheCounters()
  let nodes = Atomic<Int>(0)
  /// Whether the last pages of a large write may be written after it was answered.
  public let writesBehind: Bool
  /// Containers of which pages are written behind, or were last.
  private let behind = Atomic<Int>(0)
  /// How many there may be; each takes a scratch.
  private static let behindLimit = 16
  private let scratches = Pool<Scratch>(capacity: 8)
  let crew = WorkCrew()

  /// Makes a workspace.
  ///
  /// - Parameters:
  ///   - budget: Shared bound on dirty bytes.
  ///   - nodeLimit: Nodes to cache over all containers.
  ///   - compressionLevel: zstd level.
  ///   - writesBehind: Whether the last pages of a large write may be written after it was answered; a failure then
  ///     shows in the next write or the commit.
  public init(
    budget: DirtyBudget = DirtyBudget(), nodeLimit: Int = 16384, compressionLevel: Int = 3,
    writesBehind: Bool = false
  ) {
    self.budget = budget
    self.nodeLimit = nodeLimit
    self.compressionLevel = compressionLevel
    self.writesBehind = writesBehind
  }

  /// Whether one more container may write behind; then it has to be given back.
  func takeBehind() -> Bool {
    guard writesBehind else { return false }
    if behind.add(1, ordering: .relaxed).newValue <= Workspace.behindLimit { return true }
    giveBehind()
    return false
  }

  func giveBehind() { behind.subtract(1, ordering: .relaxed) }

  func takeScratch() -> Scratch { scratches.take() ?? Scratch() }

  func give(_ scratch: Scratch) { scratches.give(scratch) }

  /// Tasks of fewer bytes are done before another processor would wake up for them.
  static let shareLimit = 256 << 10

  /// Does the parts of a task on several processors.
  ///
  /// - Parameters:
  ///   - parts: How many.
  ///   - body: Does one part, given its number. Several run at once.
  /// - Throws: The first failure, after which further parts may have been left out.
  func share(
    parts: Int, _ body: @escaping (Int) throws(ContainerError) -> Void
  ) throws(ContainerError) {
    try crew.share(parts: parts, body)
  }
}

/// Memory and contexts that one request uses and the next one reuses.
final class Scratch: @unchecked Sendable {
  /// Pages in `run`.
  static let runPages = 256
  /// Bytes in `block`: the largest block.
  static let blockCount = 1 << 17

  /// Pages on their way to or from the backing file: 1 MiB, page aligned.
  let run = UnsafeMutableRawPointer.allocate(
    byteCount: runPages * Format.pageSize, alignment: Format.pageSize)
  /// One block of plain content.
  let block = UnsafeMutableRawPointer.allocate(byteCount: blockCount, alignment: Format.pageSize)
  /// References of the blocks in `run`.
  let references = UnsafeMutablePointer<Reference>.allocate(capacity: runPages + 2)
  /// Where in the tree the blocks in `run` are referred to.
  let slots = UnsafeMutablePointer<UnsafeMutablePointer<Reference>>.allocate(capacity: runPages + 2)
  /// Plain content of the blocks that go to `run`.
  let sources = UnsafeMutablePointer<UnsafeRawBufferPointer>.allocate(capacity: runPages)
  /// Contexts of zstd.
  let compressor = Compressor()

  init() {
    references.initialize(repeating: .hole, count: Scratch.runPages + 2)
    slots.initialize(repeating: references, count: Scratch.runPages + 2)
    sources.initialize(repeating: .init(start: nil, count: 0), count: Scratch.runPages)
  }

  deinit {
    run.deallocate()
    block.deallocate()
    references.deallocate()
    slots.deallocate()
    sources.deallocate()
  }
}
