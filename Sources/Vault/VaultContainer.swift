public import Container
public import Primitives
import Synchronization
import SystemPackage

/// An open container of a vault: one object for an inode at a time, whoever opens it.
///
/// Its last user commits before letting go; what was not committed is lost.
public final class VaultContainer: Sendable {
  /// The content.
  public let file: ContainerFile
  /// The backing file; open for writing if the vault is.
  public let descriptor: SharedFD
  /// The backing inode.
  public let identity: InodeIdentity

  let context: VaultContext
  private let key: SeenCommits.Key
  /// Held while the hint is written, so that the last one written is the newest.
  private let hint: Mutex<StoredHint>
  private let isHintBehind = Atomic<Bool>(false)

  /// What is known of the size hint that is stored.
  enum StoredHint: Equatable {
    case unknown
    case absent
    case present(SizeHint)
  }

  init(
    _ file: ContainerFile, _ descriptor: SharedFD, _ status: FileStatus, _ context: VaultContext,
    hint: StoredHint
  ) {
    self.file = file
    self.hint = Mutex(hint)
    self.descriptor = descriptor
    self.context = context
    identity = InodeIdentity(status)
    key = SeenCommits.Key(status)
  }

  /// Whether something waits for a commit, if only the size hint.
  public var isDirty: Bool { file.isDirty || isHintBehind.load(ordering: .relaxed) }

  /// What is done about the size hint after a commit.
  public enum HintUpdate: Sendable {
    /// It tells of this commit.
    case always
    /// It stays as long as it tells the size.
    case ifWrong
    /// A wrong one goes; a commit that follows stores the right one.
    case later
  }

  /// Writes what waits as one atomic change, and the size hint.
  ///
  /// - Parameters:
  ///   - modificationTime: Set on the backing file if something was committed.
  ///   - hint: When the hint is written.
  /// - Returns: false if there was nothing to write.
  /// - Throws: `.container`; the commit before still counts and the call may be repeated.
  @discardableResult
  public func commit(
    modificationTime: TimeSpec? = nil, hint: HintUpdate = .always
  ) throws(VaultError) -> Bool {
    // A commit may have been made also if what comes after it fails.
    defer { noteCommit(hint) }
    return try attempt { () throws(ContainerError) in
      try file.commit(modificationTime: modificationTime)
    }
  }

  /// Commits and waits until the medium has it.
  ///
  /// - Parameters:
  ///   - modificationTime: Set on the backing file if something was committed.
  ///   - hint: When the hint is written.
  /// - Returns: false if there was nothing to commit.
  /// - Throws: `.container`.
  @discardableResult
  public func sync(
    modificationTime: TimeSpec? = nil, hint: HintUpdate = .always
  ) throws(VaultError) -> Bool {
    defer { noteCommit(hint) }
    return try attempt { () throws(ContainerError) in
      try file.sync(modificationTime: modificationTime)
    }
  }

  /// Notes what is durable and brings the size hint up to date, format §8.7; where there are no
  /// attributes the header has to do. Commits of several threads end in any order, so what is noted
  /// is what holds now.
  private func noteCommit(_ update: HintUpdate) {
    hint.withLock { stored in
      context.commits.note(key, file.known)
      guard let last = file.lastCommit else { return }
      let wanted = SizeHint(
        size: last.size, backingLength: last.backingLength, commit: last.commit)
      isHintBehind.store(false, ordering: .relaxed)
      if case .present(let known) = stored {
        if known == wanted { return }
        isHintBehind.store(update == .later, ordering: .relaxed)
        if update != .always, known.size == wanted.size,
          update == .later || known.backingLength == wanted.backingLength
        {
          return
        }
      }
      if update == .later {
        isHintBehind.store(true, ordering: .relaxed)
        if stored == .absent { return }
        // One that stood for another size would be believed once the length happens to agree.
        stored = .absent
        try? Sys.fremovexattr(descriptor.rawValue, Format.hintAttribute)
        return
      }
      stored = .unknown
      guard let bytes = try? wanted.sealed(with: context.keys, inode: identity.inode) else {
        return
      }
      do {
        try Sys.fsetxattr(descriptor.rawValue, Format.hintAttribute, bytes)
        stored = .present(wanted)
      } catch {
        // A hint that can no longer be replaced must not stand for a size that has changed.
        try? Sys.fremovexattr(descriptor.rawValue, Format.hintAttribute)
      }
    }
  }
}

/// The containers in use, one object for each backing inode.
final class ContainerRegistry: Sendable {
  private struct Weak {
    weak var container: VaultContainer?
  }

  private struct Table {
    var entries: [InodeIdentity: Weak] = [:]
    var sweepAt = 1024
  }

  /// Opening reads the stored state and registers the object that keeps it from then on. Both
  /// happen under the inode's gate: another thread may otherwise open, change and let go of the
  /// same inode in between, and the state that was read first would be written over the newer one.
  private final class Gate: Sendable {
    let lock = Mutex(())
  }

  private let table = Mutex(Table())
  /// Read-locked while a file exists whose object is not registered yet.
  private let creations = ReadWriteLock()
  private let gates = (0..<64).map { _ in Gate() }

  /// The object of an inode; opened, by one thread at a time, if there is none.
  func find(
    _ identity: InodeIdentity, orOpen open: () throws(VaultError) -> VaultContainer
  ) throws(VaultError) -> VaultContainer {
    if let known = find(identity) { return known }
    let gate = gates[Int(truncatingIfNeeded: identity.inode % UInt64(gates.count))]
    return try gate.lock.withLock { (_) throws(VaultError) in
      if let known = find(identity) { return known }
      return insert(try open())
    }
  }

  /// Makes a file and registers its object.
  func creating<R>(_ body: () throws(VaultError) -> R) throws(VaultError) -> R {
    try creations.withReadLock(body)
  }

  /// As `find`, for a file that is still empty: another thread may be just making it.
  func findCreated(_ identity: InodeIdentity) -> VaultContainer? {
    creations.withWriteLock {}
    return find(identity)
  }

  func find(_ identity: InodeIdentity) -> VaultContainer? {
    table.withLock { $0.entries[identity]?.container }
  }

  /// Adds a container unless its inode has one; returns the one in the registry.
  func insert(_ container: VaultContainer) -> VaultContainer {
    table.withLock { table in
      if let known = table.entries[container.identity]?.container { return known }
      table.entries[container.identity] = Weak(container: container)
      if table.entries.count >= table.sweepAt {
        table.entries = table.entries.filter { $0.value.container != nil }
        table.sweepAt = max(1024, table.entries.count * 2)
      }
      return container
    }
  }
}

/// Commits of files closed earlier in this session, and which of them the medium is known to have.
/// Forgetting one costs a sync before the file's next change, and what tells that it was rolled back.
final class SeenCommits: Sendable {
  struct Key: Hashable {
    let identity: InodeIdentity
    /// Inode numbers are used again.
    let birth: TimeSpec

    init(_ status: FileStatus) {
      identity = InodeIdentity(status)
      birth = status.btime
    }
  }

  private struct Generations {
    var young: [Key: KnownCommits] = [:]
    var old: [Key: KnownCommits] = [:]
  }

  private let capacity = 16384
  private let generations = Mutex(Generations())

  func note(_ key: Key, _ commits: KnownCommits) {
    generations.withLock { generations in
      if generations.young.count >= capacity {
        generations.old = generations.young
        generations.young = [:]
      }
      generations.young[key] = commits
    }
  }

  func find(_ key: Key) -> KnownCommits? {
    generations.withLock { $0.young[key] ?? $0.old[key] }
  }

  /// Runs `sync`, which brings everything to the medium, and notes that it has what was known before.
  func syncing<E: Error>(_ sync: () throws(E) -> Void) throws(E) {
    let before = generations.withLock { $0 }
    try sync()
    generations.withLock { generations in
      for (key, commits) in before.old.merging(before.young, uniquingKeysWith: { $1 }) {
        guard var now = generations.young[key] ?? generations.old[key],
          now.fileID == commits.fileID
        else { continue }
        now.durable = max(now.durable, commits.last)
        if generations.young[key] != nil {
          generations.young[key] = now
        } else {
          generations.old[key] = now
        }
      }
    }
  }
}
