public import Primitives
import Synchronization
import SystemPackage

/// An open container: a file of its own, with random access, inside a backing file.
///
/// Safe to use from several threads: readers run in parallel, writers alone. Lock order:
/// `commitLock`, then `lock`, then those of the workspace, key ring and cache, which are leaves.
public final class ContainerFile: @unchecked Sendable {
  /// Held while a commit or sync runs, so that no commit replaces one that is being synced.
  let commitLock = ReadWriteLock()
  /// Guards everything below.
  let lock = ReadWriteLock()

  /// The container's random name.
  public let fileID: FileID
  /// How the content is stored.
  public let policy: ContentPolicy
  /// Whether opening took an excuse: an older commit counts, or none. The caller logs it.
  public let healed: Bool

  let session: UInt64
  let workspace: Workspace
  let pages: PageFile
  let allocator: Allocator
  let tree: Tree
  let buffer: BlockBuffer
  let cache = BlockCache()

  /// Threads that seal and open large parts, and can do something else meanwhile.
  public var crew: WorkCrew { workspace.crew }

  var logicalSize: UInt64
  /// Logical size as of the last commit.
  var committedSize: UInt64
  var names: [Binding]
  var namesOverflow: Bool
  /// Whether something differs from the last commit.
  var isChanged: Bool
  /// Whether the last commit holds the content in its header.
  var isInline: Bool
  /// End of the only block if the header holds it; the tree's first reference names the pages before
  /// it. Gone before anything changes the content.
  var tail: BlockTail?
  var history: History
  /// The free list of the last commit as its header states it, until a writer needs it.
  var unloadedList: UnloadedList?
  /// Pages of the last commit's free list.
  var listPages: [Extent] = []
  /// Whether the last commit does not state all free pages.
  var isListPartial = false
  /// Pages that nothing uses and no list names, as `verify` found them.
  var lost = LostPages()
  /// Modification time that is still to be set on the backing file.
  var pendingTime: TimeSpec?
  var trial = CompressionTrial()
  /// What is being written while its caller goes on.
  var behind: WriteBehind?
  /// Whether such a write failed, and none has succeeded since.
  var hasFailedBehind = false

  /// What is known of the commits in the slots.
  struct History {
    /// Number of the last commit, 0 before the first.
    var commit: UInt64 = 0
    /// Slot of the last commit.
    var slot = 0
    /// Number of the commit in the other slot, 0 if there is none that counts.
    var other: UInt64 = 0
    /// Highest number seen.
    var highest: UInt64 = 0
    /// Number of the newest durable commit, 0 if none is known to be.
    var durable: UInt64 = 0
    /// Whether the last commit may or may not be durable.
    var isDurabilityUnknown = false
    /// Whether the other slot has never been written.
    var isAlone = true
    /// Whether the last commit says so (flag 2).
    var isFirst = false
    /// Whether the commit in the other slot says so, and would count if the last one were gone.
    var isOtherFirst = false
    /// Whether the last commit is to be repeated over the other slot.
    var isRepeatDue = false
    /// Whether the last commit repeats a durable one.
    var isRepeat = false
    /// Whether a change time of this session is on the medium: what excuses a torn commit and a stale size hint after
    /// a power cut goes by it, and fdatasync(2) may leave it behind.
    var isTimeDurable = false
    /// Whether a sync failed, after which the kernel may have forgotten what it had to write.
    var isSyncSuspect = false
    /// Whether the backing file has pages of a container that was never committed.
    var needsReset = false
  }

  /// Free and held extents of a header with the first page of the rest.
  struct UnloadedList {
    var free: [Extent]
    var held: [Extent]
    var heldCommit: UInt64
    var list: Reference
  }

  init(_ header: Header, history: History, isNew: Bool, healed: Bool, context: Context) {
    fileID = header.fileID
    policy = header.policy
    self.healed = healed
    session = context.session
    workspace = context.workspace
    self.history = history
    pages = PageFile(
      store: context.store, ring: context.ring, limits: header.limits, seals: header.seals)
    allocator = Allocator(
      end: max(header.pageCount, UInt64(Format.slotCount)), neverDurable: history.durable == 0,
      otherIsEmpty: history.other == 0)
    buffer = BlockBuffer(budget: workspace.budget)
    logicalSize = header.size
    committedSize = header.size
    names = header.bindings
    namesOverflow = header.bindingsOverflow
    isChanged = isNew || healed
    switch header.content {
    case .inline(let bytes):
      isInline = true
      tree = Tree(
        pages: pages, allocator: allocator, workspace: workspace, references: [], depth: 0)
      keepInline(bytes)
    case .tree(let references):
      isInline = false
      tree = Tree(
        pages: pages, allocator: allocator, workspace: workspace, references: references,
        depth: header.depth)
    case .packed(let reference, let bytes):
      isInline = false
      tail = bytes
      tree = Tree(
        pages: pages, allocator: allocator, workspace: workspace, references: [reference], depth: 0)
    }
    if !isNew {
      unloadedList = UnloadedList(
        free: header.free, held: header.held, heldCommit: header.heldCommit, list: header.list)
    }
  }

  /// What a container is opened with.
  struct Context {
    var store: any BlockStore
    var ring: KeyRing
    var session: UInt64
    var workspace: Workspace
  }

  deinit {
    // Of a file that nobody committed; a commit waits for it.
    guard let behind else { return }
    _ = behind.isWritten
    workspace.giveBehind()
  }

  /// Puts the content of an inline file where reads find it.
  private func keepInline(_ bytes: [UInt8]) {
    if bytes.isEmpty { return }
    let entry = buffer.add(0, capacity: Format.pageSize)
    entry.memory.zero(from: 0, count: entry.capacity)
    bytes.withUnsafeBytes { entry.memory.buffer(bytes.count).copyMemory(from: $0) }
    buffer.setCounted(0, false)
  }

  // MARK: State

  /// Logical size in bytes.
  public var size: UInt64 { lock.withReadLock { logicalSize } }

  /// The names the container may be found under.
  public var bindings: [Binding] { lock.withReadLock { names } }

  /// Whether it may be found under one of these names.
  public func isBound(toAnyOf accepted: [Binding]) -> Bool {
    lock.withReadLock { names.contains { accepted.contains($0) } }
  }

  /// Whether there are more links than bindings, so that none is checked.
  public var bindingsOverflow: Bool { lock.withReadLock { namesOverflow } }

  /// Number of the last commit; 0 before the first.
  public var commitNumber: UInt64 { lock.withReadLock { history.commit } }

  /// What is known of the commits, for the next object of the same file.
  public var known: KnownCommits {
    lock.withReadLock {
      KnownCommits(fileID: fileID, last: history.commit, durable: history.durable)
    }
  }

  /// Whether something waits for a commit: content, or what a sync leaves to it. That is the full
  /// list of many free pages, forgotten if no commit follows, cutting some at the file's end, and
  /// replacing a commit that should no longer be found.
  public var isDirty: Bool {
    lock.withReadLock {
      isChanged || pendingTime != nil || isListPartial || idleTail > 0 || history.isRepeatDue
    }
  }

  /// Whether content, size or bindings differ from the last commit.
  public var hasChanges: Bool { lock.withReadLock { isChanged } }

  /// Whether the first commit would count again if the last one were taken away.
  public var isExposed: Bool { lock.withReadLock { history.isOtherFirst } }

  /// Has the next commit replace a first commit beside a durable one.
  public func endExposure() {
    lock.withWriteLock {
      if history.isOtherFirst, history.durable == history.commit { history.isRepeatDue = true }
    }
  }

  /// What the last commit of this object made of the backing file; nil before there was one.
  public var lastCommit: CommittedFile? {
    lock.withReadLock {
      // The length is known for sure once a commit was prepared.
      guard unloadedList == nil, history.commit != 0 else { return nil }
      return CommittedFile(
        size: committedSize, backingLength: pages.storedPages << 12, commit: history.commit)
    }
  }

  /// Whether everything is on the medium.
  public var isDurable: Bool {
    lock.withReadLock {
      !isChanged && history.commit != 0
        && (history.durable == history.commit || history.isRepeat)
    }
  }

  /// Bytes in use, for `st_blocks`: pages of the tree and blocks that wait in memory.
  public var allocatedBytes: UInt64 {
    lock.withReadLock {
      var used = allocator.usedPages
      if let list = unloadedList {
        used -= min(used, list.free.pageCount + list.held.pageCount)
      }
      return used << 12
    }
  }

  // MARK: Bindings

  /// Adds a binding with the next commit; beyond 16, none is checked any more.
  public func addBinding(_ binding: Binding) {
    lock.withWriteLock {
      if names.contains(binding) { return }
      if names.count < Format.bindingLimit {
        names.append(binding)
      } else {
        namesOverflow = true
      }
      isChanged = true
    }
  }

  /// Drops a binding with the next commit.
  public func removeBinding(_ binding: Binding) {
    lock.withWriteLock {
      guard let index = names.firstIndex(of: binding) else { return }
      names.remove(at: index)
      isChanged = true
    }
  }

  /// Replaces the bindings with the next commit.
  ///
  /// - Parameters:
  ///   - bindings: 16 at most.
  ///   - overflow: Whether there are more links than bindings.
  public func setBindings(_ bindings: [Binding], overflow: Bool) {
    precondition(bindings.count <= Format.bindingLimit, "a container holds 16 bindings at most")
    lock.withWriteLock {
      if names == bindings && namesOverflow == overflow { return }
      names = bindings
      namesOverflow = overflow
      isChanged = true
    }
  }
}

/// Commits of a file that was open before.
public struct KnownCommits: Sendable {
  /// The file.
  public var fileID: FileID
  /// Number of the last commit.
  public var last: UInt64
  /// Number of the newest commit known to be on the medium; 0 if none is.
  public var durable: UInt64
}

/// What a commit made of a backing file.
public struct CommittedFile: Sendable, Equatable {
  /// Logical size in bytes.
  public var size: UInt64
  /// Length of the backing file in bytes.
  public var backingLength: UInt64
  /// Number of the commit.
  public var commit: UInt64
}
