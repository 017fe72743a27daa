public import Container
public import Primitives
import SystemPackage

/// A key slot to make.
public struct SlotRequest: Sendable {
  /// What is to open it.
  public var secret: VaultSecret
  /// Its owner's note, at most 64 bytes of UTF-8.
  public var label: String

  /// Takes both.
  public init(secret: VaultSecret, label: String = "") {
    self.secret = secret
    self.label = label
  }
}

extension Vault {
  /// Makes a new vault; it is left closed. What fails leaves nothing of it.
  ///
  /// - Parameters:
  ///   - path: An empty folder, or one to make (its parent exists).
  ///   - slots: The secrets that are to open it, 1 to 64.
  ///   - content: The root directory's policy of new files.
  ///   - names: The root directory's policy of names.
  ///   - cost: How much a guess of a passphrase costs.
  ///   - suite: The AEAD of the whole vault.
  ///   - vaultID: The vault's 16 random bytes; nil for new ones.
  /// - Throws: `.system`; `.directoryNotEmpty` within if the folder has anything in it.
  public static func create(
    at path: String, slots: [SlotRequest], content: ContentPolicy = .sealed,
    names: NamePolicy = .sealed, cost: KeyCost = .standard, suite: CipherSuite = .preferred,
    vaultID: [UInt8]? = nil
  ) throws(VaultError) {
    guard (1...Format.maximumSlots).contains(slots.count) else {
      throw .system(.invalidArgument, "a vault has 1 to 64 key slots")
    }
    let vaultID = vaultID ?? Random.bytes(Format.vaultIDCount)
    let master = SecretBytes.random(count: Format.masterKeyCount)
    let keys: MasterKeys
    do {
      keys = try MasterKeys(master: master, vaultID: vaultID, suite: suite)
    } catch {
      throw .system(.noMemory, "deriving the vault's keys: \(error)")
    }
    var wrapped: [KeySlot] = []
    for slot in slots {
      wrapped.append(
        try KeySlot(
          wrapping: master, secret: slot.secret, label: slot.label, cost: cost, vaultID: vaultID))
    }
    let (base, isMade) = try emptyFolder(path)
    let header = VaultHeader(suite: suite, vaultID: vaultID, slots: wrapped)
    do throws(VaultError) {
      try fill(base.rawValue, header, keys, content, names)
    } catch {
      // Only an empty folder goes.
      if isMade {
        try? Sys.unlinkat(Sys.currentDirectory, [UInt8](path.utf8), isDirectory: true)
      }
      throw error
    }
  }

  private static func fill(
    _ base: Int32, _ header: VaultHeader, _ keys: MasterKeys, _ content: ContentPolicy,
    _ names: NamePolicy
  ) throws(VaultError) {
    // Whoever makes this file makes the vault, if two try at once.
    try SessionFile.create(in: base, keys: keys)
    do throws(VaultError) {
      try makeTree(in: base, keys, content, names)
      // The header comes last: without it there is no vault, so a half-made one is never opened.
      try HeaderFile.store(header, keys: keys, in: base, replacing: false)
    } catch {
      empty(base)
      throw error
    }
  }

  private static func makeTree(
    in base: Int32, _ keys: MasterKeys, _ content: ContentPolicy, _ names: NamePolicy
  ) throws(VaultError) {
    let record = DirectoryRecord(
      id: .random(), serial: 1, content: content, names: names, flags: [], rules: [],
      bindings: [keys.rootBinding])
    try attempt("creating tree") { () throws(Errno) in
      try Sys.mkdirat(base, Format.treeName, mode: 0o755)
    }
    let tree = try attempt("opening tree") { () throws(Errno) in
      try Sys.openat(base, Format.treeName, [.readOnly, .directory, .noFollow])
    }
    try RecordFile.store(record, keys: keys, in: tree.rawValue, durable: true)
    try attempt("syncing tree") { () throws(Errno) in try Sys.fsync(tree.rawValue) }
  }

  /// Takes away what a vault that could not be made has left, the header first.
  private static func empty(_ base: Int32) {
    for name in [Format.headerName, Format.newHeaderName] { try? Sys.unlinkat(base, name) }
    if let tree = try? Sys.openat(base, Format.treeName, [.readOnly, .directory, .noFollow]) {
      for name in [Format.recordName, Format.newRecordName] {
        try? Sys.unlinkat(tree.rawValue, name)
      }
    }
    try? Sys.unlinkat(base, Format.treeName, isDirectory: true)
    try? Sys.unlinkat(base, Format.sessionName)
  }

  /// - Returns: The folder, and whether it was made.
  private static func emptyFolder(
    _ path: String
  ) throws(VaultError) -> (folder: SharedFD, isMade: Bool) {
    var isMade = true
    do {
      try Sys.mkdirat(Sys.currentDirectory, [UInt8](path.utf8), mode: 0o755)
    } catch .fileExists {
      isMade = false
      // Then it must be an empty folder, which is looked at below.
    } catch {
      throw .system(error, "creating the vault's folder")
    }
    let folder = try openFolder(path)
    let entries = try attempt("reading the vault's folder") { () throws(Errno) in
      try Sys.entries(of: folder.rawValue)
    }
    guard entries.isEmpty else {
      throw .system(.directoryNotEmpty, "the vault's folder is not empty")
    }
    return (folder, isMade)
  }

  // MARK: Key slots

  /// The public header, without any secret. It is not authenticated.
  ///
  /// - Parameter path: The backing folder.
  /// - Returns: What it says.
  /// - Throws: `.notAVault`, `.system`.
  public static func inspect(at path: String) throws(VaultError) -> VaultHeader {
    let base = try openFolder(path)
    // A temporary would be closed as soon as its number is known.
    defer { withExtendedLifetime(base) {} }
    return try HeaderFile.load(in: base.rawValue)
  }

  /// Adds a key slot. Works while the vault is mounted.
  ///
  /// - Parameters:
  ///   - path: The backing folder.
  ///   - secret: Opens a present slot.
  ///   - request: The new slot.
  ///   - cost: How much a guess of a passphrase costs.
  /// - Returns: Index of the new slot.
  /// - Throws: `.wrongSecret`, `.damaged`, `.system` (`.noSpace` beyond 64 slots).
  @discardableResult
  public static func addSlot(
    at path: String, unlockedBy secret: VaultSecret, _ request: SlotRequest,
    cost: KeyCost = .standard
  ) throws(VaultError) -> Int {
    try editHeader(at: path, secret) { (header, keys, _) throws(VaultError) in
      guard header.slots.count < Format.maximumSlots else {
        throw .system(.noSpace, "the vault has 64 key slots already")
      }
      header.slots.append(
        try KeySlot(
          wrapping: keys.master, secret: request.secret, label: request.label, cost: cost,
          vaultID: header.vaultID))
      return header.slots.count - 1
    }
  }

  /// Removes a key slot; the last one stays.
  ///
  /// - Parameters:
  ///   - path: The backing folder.
  ///   - secret: Opens a slot, perhaps this one.
  ///   - index: Which slot, from 0.
  /// - Throws: `.wrongSecret`, `.damaged`, `.system` (`.invalidArgument` for a slot that does not
  ///   exist, `.notPermitted` for the last one).
  public static func removeSlot(
    at path: String, unlockedBy secret: VaultSecret, index: Int
  ) throws(VaultError) {
    try editHeader(at: path, secret) { (header, _, _) throws(VaultError) in
      guard header.slots.indices.contains(index) else {
        throw .system(.invalidArgument, "there is no such key slot")
      }
      guard header.slots.count > 1 else {
        throw .system(.notPermitted, "the last key slot cannot be removed")
      }
      header.slots.remove(at: index)
    }
  }

  /// Replaces the slot that a secret opens, in one step.
  ///
  /// - Parameters:
  ///   - path: The backing folder.
  ///   - secret: The slot's present secret.
  ///   - request: What takes its place; with an empty label it keeps the old one's.
  ///   - cost: How much a guess of a passphrase costs.
  /// - Returns: Index of the slot.
  /// - Throws: `.wrongSecret`, `.damaged`, `.system`.
  @discardableResult
  public static func replaceSlot(
    at path: String, openedBy secret: VaultSecret, with request: SlotRequest,
    cost: KeyCost = .standard
  ) throws(VaultError) -> Int {
    try editHeader(at: path, secret) { (header, keys, index) throws(VaultError) in
      let label = request.label.isEmpty ? header.slots[index].label : request.label
      header.slots[index] = try KeySlot(
        wrapping: keys.master, secret: request.secret, label: label, cost: cost,
        vaultID: header.vaultID)
      return index
    }
  }

  static func editHeader<R>(
    at path: String, _ secret: VaultSecret,
    _ edit: (inout VaultHeader, MasterKeys, Int) throws(VaultError) -> R
  ) throws(VaultError) -> R {
    let base = try openFolder(path)
    // Looked at before the lock's file is touched: a folder without a vault stays as it is.
    _ = try HeaderFile.load(in: base.rawValue)
    let lock = try VaultLock.acquireHeaderEditor(in: base.rawValue)
    defer { withExtendedLifetime(lock) {} }
    // What opens the old master key is of no use any more.
    try requireWhole(base.rawValue)
    var header = try HeaderFile.load(in: base.rawValue)
    let (keys, index) = try header.unlock(secret)
    let result = try edit(&header, keys, index)
    try HeaderFile.store(header, keys: keys, in: base.rawValue, replacing: true)
    return result
  }
}
