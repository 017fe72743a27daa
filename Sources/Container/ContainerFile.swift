import Primitives
import SystemPackage

/// An open container.
public final class ContainerFile: @unchecked Sendable {
  private init() {}

  /// Starts a container in an empty backing file. Nothing is written before the first commit.
  ///
  /// - Parameters:
  ///   - store: The empty backing file.
  ///   - keys: The vault's keys.
  ///   - parameters: What the container is to be.
  ///   - workspace: What the containers of a mount share.
  public static func create(
    store: any BlockStore, keys: ContainerKeys, parameters: ContainerParameters,
    workspace: Workspace
  ) throws(ContainerError) -> ContainerFile { throw .io(.notSupported) }

  /// Opens a container: reads its header, and nothing else unless a torn commit is excused.
  ///
  /// - Parameters:
  ///   - store: The backing file.
  ///   - keys: The vault's keys.
  ///   - parameters: The session; policy and bindings count only where an excuse makes the file one
  ///     that was never committed.
  ///   - excuse: Whether a torn commit may be passed over.
  ///   - knownDurable: `durableCommit` of an earlier object for the same file in this session; nil
  ///     if not known, which costs a sync before the first change.
  ///   - workspace: What the containers of a mount share.
  public static func open(
    store: any BlockStore, keys: ContainerKeys, parameters: ContainerParameters,
    excuse: TornExcuse, knownDurable: UInt64? = nil, workspace: Workspace
  ) throws(ContainerError) -> ContainerFile { throw .io(.notSupported) }

  /// Logical size in bytes.
  public var size: UInt64 { 0 }
  /// How the content is stored.
  public var policy: ContentPolicy { .sealed }
  /// The container's random name.
  public var fileID: FileID { .random() }
  /// The names the container may be found under.
  public var bindings: [Binding] { [] }
  /// Whether there are more links than bindings, so that none is checked.
  public var bindingsOverflow: Bool { false }
  /// Number of the last commit; 0 before the first.
  public var commitNumber: UInt64 { 0 }
  /// Number of the newest commit known to be on the medium; 0 if none is.
  public var durableCommit: UInt64 { 0 }
  /// Whether something waits for a commit.
  public var isDirty: Bool { false }
  /// Whether opening took an excuse: an older commit counts, or none. The caller logs it.
  public var healed: Bool { false }
  /// Bytes of the backing file in use, for `st_blocks`.
  public var allocatedBytes: UInt64 { 0 }
  /// Bytes of the backing file kept only for the commit before; a sync gives them back.
  public var heldBytes: UInt64 { 0 }

  /// Reads, decrypting in the caller's buffer. Holes are zeros.
  ///
  /// - Parameters:
  ///   - offset: Logical offset in bytes.
  ///   - buffer: Where the bytes go; its content is undefined after an error.
  /// - Returns: How many bytes; fewer than asked for only at the end of the file.
  public func read(
    at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(ContainerError) -> Int { throw .io(.notSupported) }

  /// Writes; the bytes wait in memory or in free pages until a commit.
  ///
  /// - Parameters:
  ///   - offset: Logical offset in bytes.
  ///   - buffer: The bytes. After an error any first part of them may have been taken.
  public func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer) throws(ContainerError) {
    throw .io(.notSupported)
  }

  /// Sets the logical size in bytes; what is added reads as zeros.
  public func truncate(to size: UInt64) throws(ContainerError) { throw .io(.notSupported) }

  /// Turns a range of bytes into zeros without changing the size.
  public func punchHole(at offset: UInt64, count: UInt64) throws(ContainerError) {
    throw .io(.notSupported)
  }

  /// Turns a range of bytes into zeros, and extends the file to hold it unless `keepSize`.
  public func zeroRange(
    at offset: UInt64, count: UInt64, keepSize: Bool
  ) throws(ContainerError) { throw .io(.notSupported) }

  /// Extends the file to hold a range of bytes, unless `keepSize`. Space is not reserved.
  public func allocate(
    at offset: UInt64, count: UInt64, keepSize: Bool
  ) throws(ContainerError) { throw .io(.notSupported) }

  /// SEEK_DATA: the first offset from `offset` on that is not in a hole; nil if there is none.
  public func nextData(from offset: UInt64) throws(ContainerError) -> UInt64? {
    throw .io(.notSupported)
  }

  /// SEEK_HOLE: the first offset from `offset` on that is in a hole, the file's end counting as
  /// one; nil if `offset` is not inside the file.
  public func nextHole(from offset: UInt64) throws(ContainerError) -> UInt64? {
    throw .io(.notSupported)
  }

  /// Adds a binding with the next commit; beyond 16, none is checked any more.
  public func addBinding(_ binding: Binding) {}

  /// Drops a binding with the next commit.
  public func removeBinding(_ binding: Binding) {}

  /// Replaces the bindings with the next commit.
  public func setBindings(_ bindings: [Binding], overflow: Bool) {}

  /// Writes what waits, as one atomic change. After an error the commit before still counts and
  /// the call may be repeated.
  ///
  /// - Parameter modificationTime: Set on the backing file afterwards.
  /// - Returns: false if there was nothing to write.
  @discardableResult
  public func commit(modificationTime: TimeSpec? = nil) throws(ContainerError) -> Bool {
    throw .io(.notSupported)
  }

  /// Commits and waits until the medium has it.
  ///
  /// - Parameter modificationTime: Set on the backing file if something was committed.
  /// - Returns: false if there was nothing to commit.
  @discardableResult
  public func sync(modificationTime: TimeSpec? = nil) throws(ContainerError) -> Bool {
    throw .io(.notSupported)
  }

  /// Looks for damage: nodes and lists, and with `deep` every block.
  ///
  /// - Parameters:
  ///   - deep: Whether blocks are read too.
  ///   - progress: Told how many more bytes were read.
  /// - Returns: Everything found.
  public func verify(deep: Bool, progress: (UInt64) -> Void) throws(ContainerError) -> [Damage] {
    throw .io(.notSupported)
  }
}
