public import Container
import Primitives
import SystemPackage
public import Vault

/// How files are to be stored.
public struct ConversionGoal: Sendable, Equatable {
  /// The mode; nil for what each directory's policy and rules say of the name.
  public var policy: ContentPolicy?
  /// Whether the blocks of the former version are overwritten and given back.
  public var discards: Bool

  /// Joins the two.
  public init(policy: ContentPolicy?, discards: Bool) {
    self.policy = policy
    self.discards = discards
  }
}

/// What a conversion asks of whoever has the vault open.
public struct ConversionFence {
  /// Hears of copied bytes; what it throws ends the conversion of the file.
  public let advance: (UInt64) throws(TransferError) -> Void
  /// Runs the step that puts the new version into place, while nobody changes the old one.
  public let swap: (() throws(TransferError) -> Void) throws(TransferError) -> Void
  /// Whether somebody still reads the old version.
  public let isRead: () -> Bool

  /// Joins them.
  ///
  /// - Parameters:
  ///   - advance: Called after each part of the file.
  ///   - swap: Calls its argument once, or throws instead.
  ///   - isRead: Called after the swap.
  public init(
    advance: @escaping (UInt64) throws(TransferError) -> Void,
    swap: @escaping (() throws(TransferError) -> Void) throws(TransferError) -> Void,
    isRead: @escaping () -> Bool
  ) {
    self.advance = advance
    self.swap = swap
    self.isRead = isRead
  }
}

/// Stores files anew in another mode: the new version is written, brought to the medium, read back,
/// compared, and only then put into the place of the old one. Used by one thread at a time.
public final class FileConverter {
  private let buffer = TransferBuffer()

  /// What became of a file.
  public struct Result: Sendable {
    /// `.converted`, or `.present` where nothing was to do.
    public let outcome: MigrationEvent.Outcome
    /// The file's size.
    public let bytes: UInt64
    /// What else the user should know.
    public let note: String?
  }

  /// Prepares conversions.
  public init() {}

  /// Converts a file, or seals a symbolic link's target where the directory wants it sealed.
  ///
  /// - Parameters:
  ///   - entry: What a lookup in `directory` found.
  ///   - directory: Where it is.
  ///   - goal: How it is to be stored.
  ///   - fence: Who is asked.
  /// - Returns: What became of it.
  /// - Throws: `.changed` if it changed meanwhile, `.different` if the medium does not give back what
  ///   was written; what `fence` throws; `.outside`, `.vault`. The file is then as it was.
  public func convert(
    _ entry: VaultEntry, in directory: VaultDirectory, to goal: ConversionGoal,
    fence: ConversionFence
  ) throws(TransferError) -> Result {
    switch entry.mode {
    case .directory, .special, .longLink: return Result(outcome: .present, bytes: 0, note: nil)
    case .symbolicLink:
      let isNew = try inVault { () throws(VaultError) in try directory.remakeLink(entry) }
      return Result(outcome: isNew ? .converted : .present, bytes: 0, note: nil)
    case .plain, .container: break
    }
    let policy = goal.policy ?? directory.record.policy(for: entry.name)
    let status = try inVault { () throws(VaultError) in try directory.plainStatus(entry) }
    let old = try Version(entry, in: directory)
    // Opening it may have taken a permission it does not give, which shows in its change time.
    let now = try inVault { () throws(VaultError) in try directory.lookup(entry.name) }
    guard let now, now.identity == entry.identity else { throw .changed }
    guard old.policy != policy else {
      try inVault { () throws(VaultError) in try directory.removeFormerVersion(entry.name) }
      return Result(outcome: .present, bytes: status.size, note: nil)
    }
    let new = try inVault { () throws(VaultError) in
      try directory.beginReplacement(of: now, policy: policy)
    }
    do throws(TransferError) {
      try store(old.content, as: new, size: status.size, in: directory, fence)
      try fence.swap { () throws(TransferError) in
        do throws(VaultError) {
          _ = try directory.finishReplacement(new)
        } catch .system(.staleNFSFileHandle, _) {
          throw .changed
        } catch {
          throw .vault(error)
        }
      }
    } catch {
      directory.cancelReplacement(new)
      throw error
    }
    let note = goal.discards ? discard(old, entry, isRead: fence.isRead()) : nil
    return Result(outcome: .converted, bytes: status.size, note: note)
  }

  /// A file as it is stored now.
  private struct Version {
    let content: Content
    let policy: ContentPolicy
    /// Open for writing, if that was possible.
    let descriptor: SharedFD

    init(_ entry: VaultEntry, in directory: VaultDirectory) throws(TransferError) {
      if entry.mode == .container {
        let container = try inVault { () throws(VaultError) in try directory.openContainer(entry) }
        (content, policy) = (.container(container), container.file.policy)
        descriptor = container.descriptor
        return
      }
      policy = .plain
      descriptor = try inVault { () throws(VaultError) in
        do throws(VaultError) {
          return try directory.openPlain(entry, .readWrite)
        } catch {
          // A running program, or a file its owner may not write.
          return try directory.openPlain(entry, .readOnly)
        }
      }
      content = .plain(descriptor)
    }
  }

  private func store(
    _ content: Content, as new: Replacement, size: UInt64, in directory: VaultDirectory,
    _ fence: ConversionFence
  ) throws(TransferError) {
    let target = new.container.map { Content.container($0) } ?? .plain(new.descriptor)
    try buffer.copy(content, to: target, size: size, advance: fence.advance)
    try inVault { () throws(VaultError) in try directory.prepareReplacement(new) }
    // POSIX_FADV_DONTNEED; what cannot be dropped is compared all the same.
    try? Sys.fadvise(new.descriptor.rawValue, offset: 0, length: 0, advice: 4)
    let stored = try inVault { () throws(VaultError) in try directory.storedContent(new) }
    let readBack = stored.map { Content.stored($0) } ?? .plain(new.descriptor)
    let isWhole = try buffer.isEqual(content, readBack, size: size) { () throws(TransferError) in
      try fence.advance(0)
    }
    guard isWhole else { throw .different }
  }

  // MARK: The former version

  /// Overwrites what has no name any more and gives its blocks back.
  ///
  /// - Returns: Why not, if it could not be done.
  private func discard(_ old: Version, _ entry: VaultEntry, isRead: Bool) -> String? {
    if isRead { return "its former blocks were not overwritten: somebody still reads them" }
    let file = old.descriptor.rawValue
    do throws(Errno) {
      let size = try Sys.fstatx(file, fields: .size).size
      buffer.first.initializeMemory(as: UInt8.self, repeating: 0)
      var offset: UInt64 = 0
      while offset < size {
        let count = Int(min(size - offset, UInt64(buffer.first.count)))
        try Sys.pwrite(
          file, UnsafeRawBufferPointer(rebasing: buffer.first[..<count]), at: Int64(offset))
        offset += UInt64(count)
      }
      try Sys.fdatasync(file)
      if size > 0 {
        try Sys.fallocate(
          file, mode: [.punchHole, .keepSize], offset: 0, length: Int64(clamping: size))
        try Sys.fsync(file)
      }
      return nil
    } catch {
      return "its former blocks were not all overwritten: \(error)"
    }
  }
}
