public import Container
public import Logging
public import Primitives
import Synchronization
import SystemPackage

/// An open vault.
public final class Vault: Sendable {
  /// Where it is.
  public let path: String
  /// Its public header as it was when the vault was opened.
  public let header: VaultHeader
  /// What whoever opened it should be told, such as that a second writer would not be noticed.
  public let notices: [String]
  /// The directory the data begins in.
  public let root: VaultDirectory

  let context: VaultContext
  private let lock: VaultLock?

  /// What may be done with it.
  public var access: VaultAccess { context.access }
  /// The number of this session; the last one's if the vault is only read.
  public var session: UInt64 { context.session.number }
  /// The times for which torn commits are excused.
  public var uncleanWindows: [UncleanWindow] { context.session.windows }
  /// The AEAD of the whole vault.
  public var suite: CipherSuite { header.suite }
  /// What containers derive their keys from.
  public var containerKeys: ContainerKeys { context.keys.content }
  /// Blocks of containers that reads wanted, and whether their content was in memory.
  public var blockCache: CacheCounters { context.workspace.blockCache }
  /// Names that were to be translated, and whether the other name was in memory.
  public var nameCache: CacheCounters { context.nameLookups }
  /// The backing folder `tree/`'s filesystem, for statfs.
  ///
  /// - Throws: `.system`.
  public func filesystemStatus() throws(VaultError) -> FilesystemStatus {
    try attempt("statfs") { () throws(Errno) in try Sys.statfs(context.base.rawValue) }
  }

  /// The directory that holds the vault, to be left out of walks; nil if it cannot be looked at.
  public var folderIdentity: InodeIdentity? {
    (try? Sys.fstatx(context.base.rawValue)).map { InodeIdentity($0) }
  }

  init(
    path: String, header: VaultHeader, root: VaultDirectory, context: VaultContext,
    lock: VaultLock?
  ) {
    self.path = path
    self.header = header
    self.root = root
    self.context = context
    self.lock = lock
    notices = lock?.notice.map { [$0] } ?? []
  }

  // MARK: Opening

  /// Opens a vault.
  ///
  /// - Parameters:
  ///   - path: The backing folder.
  ///   - secret: Opens one of the key slots.
  ///   - access: A writer takes the lock and opens a session; a reader changes nothing.
  ///   - logger: Hears of damage and refusals.
  ///   - workspace: What all its containers share.
  ///   - descriptorLimit: How many directories may keep a descriptor open.
  ///   - isPart: Whether a vault whose master key is being replaced is opened too: what is left of the old one.
  ///   - isLeaving: Asked again and again about another process of this machine that writes the vault: true to
  ///     go on waiting for its end. It sleeps as long as it sees fit.
  /// - Returns: The open vault.
  /// - Throws: `.notAVault`, `.wrongSecret`, `.locked`, `.rekeying`, `.damaged`, `.system`.
  public static func open(
    at path: String, secret: VaultSecret, access: VaultAccess,
    logger: Logger = Logger(label: "scrim.vault"), workspace: Workspace = Workspace(),
    descriptorLimit: Int = 256, isPart: Bool = false,
    isLeaving: (Int32) -> Bool = { _ in false }
  ) throws(VaultError) -> Vault {
    let base = try openFolder(path)
    let header = try HeaderFile.load(in: base.rawValue)
    let keys = try header.unlock(secret).keys
    let lock: VaultLock?
    let session: SessionFile
    switch access {
    case .readWrite:
      lock = try VaultLock.acquireWriter(in: base.rawValue, isLeaving: isLeaving)
      if !isPart { try requireWhole(base.rawValue) }
      session = try SessionFile.begin(in: base.rawValue, keys: keys)
    case .readOnly:
      lock = nil
      if !isPart { try requireWhole(base.rawValue) }
      session = try SessionFile.observe(in: base.rawValue, keys: keys)
    }
    let context = VaultContext(
      keys: keys, session: session, access: access, base: base, logger: logger,
      workspace: workspace, descriptorLimit: descriptorLimit)
    let root = try VaultDirectory.openRoot(context)
    return Vault(path: path, header: header, root: root, context: context, lock: lock)
  }

  /// Says that the last changes of a file could not be stored before it was let go. The session then
  /// ends as a crash ends it, so that a file never committed counts as empty, not as damaged.
  public func noteLostChanges() {
    context.hasLostChanges.store(true, ordering: .relaxed)
  }

  /// Ends the session of a writer: everything on the backing filesystem is synced, then the
  /// session is marked clean. The lock goes when the vault does. Every container has been committed
  /// and let go before.
  ///
  /// - Throws: `.system` if syncing fails; the session then stays open, as after a crash.
  public func close() throws(VaultError) {
    guard access == .readWrite else { return }
    try attempt("syncing the vault's filesystem") { () throws(Errno) in
      try Sys.syncfs(context.base.rawValue)
    }
    if !context.hasLostChanges.load(ordering: .relaxed) { try context.session.end() }
    if let lock {
      try? Sys.setLock(lock.descriptor.rawValue, RecordLock(.unlocked, start: 0, length: 1))
    }
  }

  /// Syncs the backing filesystem.
  ///
  /// - Throws: `.system`.
  public func syncFilesystem() throws(VaultError) {
    try context.requireWritable()
    try context.commits.syncing { () throws(VaultError) in
      try attempt("syncing the vault's filesystem") { () throws(Errno) in
        try Sys.syncfs(context.base.rawValue)
      }
    }
  }

  static func openFolder(_ path: String) throws(VaultError) -> SharedFD {
    do {
      return SharedFD(
        try Sys.openat(Sys.currentDirectory, [UInt8](path.utf8), [.readOnly, .directory]))
    } catch .noSuchFileOrDirectory {
      throw .notAVault("the folder does not exist")
    } catch .notDirectory {
      throw .notAVault("not a folder")
    } catch {
      throw .system(error, "opening the vault's folder")
    }
  }
}
