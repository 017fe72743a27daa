public import Container
import Primitives
import Synchronization
import SystemPackage

/// A directory whose record was authenticated: resolves, lists and changes its entries.
///
/// There is one object for a directory at a time, however often it is opened. Safe to use from
/// several threads at once.
public final class VaultDirectory: Sendable {
  /// The backing directory.
  public let identity: InodeIdentity
  /// The directory's random identity.
  public let id: DirectoryID

  let context: VaultContext
  /// Held while entries are made, moved or removed.
  let changes = Mutex<Void>(())
  /// Held while the record is replaced.
  let recordChanges = Mutex<Void>(())
  let nameCache = NameCache()
  private let state: Mutex<State>

  struct State {
    /// nil for the root.
    var parent: VaultDirectory?
    var name: [UInt8]
    var backingName: [UInt8]
    var view: DirectoryView
    /// Open with O_PATH.
    var descriptor: SharedFD?
    var wasUsed = true
    var isRemoved = false
    /// Serial of the record that the medium is known to have.
    var syncedSerial: UInt64?
  }

  init(
    _ context: VaultContext, identity: InodeIdentity, view: DirectoryView,
    parent: VaultDirectory?, name: [UInt8], backingName: [UInt8], descriptor: SharedFD
  ) {
    self.context = context
    self.identity = identity
    id = view.record.id
    state = Mutex(
      State(
        parent: parent, name: name, backingName: backingName, view: view, descriptor: descriptor))
  }

  // MARK: Policy

  var view: DirectoryView { state.withLock { $0.view } }

  /// The record as it counts now.
  public var record: DirectoryRecord { view.record }
  /// The policy of new files whose name no rule matches.
  public var contentPolicy: ContentPolicy { view.record.content }
  /// The policy of the entries' names.
  public var namePolicy: NamePolicy { view.record.names }
  /// Whether the backing directory is the data as it is, so that other programs may change it.
  public var isNative: Bool { view.record.isNative }
  /// Whether this directory was removed since it was opened.
  public var isRemoved: Bool { state.withLock { $0.isRemoved } }

  func setView(_ view: DirectoryView) { state.withLock { $0.view = view } }
  func markRemoved(_ removed: Bool) { state.withLock { $0.isRemoved = removed } }

  // MARK: Place

  /// The directory this one is in, nil for the root.
  public var parent: VaultDirectory? { state.withLock { $0.parent } }
  /// The plain name in the parent; empty for the root.
  public var name: [UInt8] { state.withLock { $0.name } }

  /// The plain path from the root, for messages; begins with `/`.
  public var path: [UInt8] {
    var names: [[UInt8]] = []
    var directory: VaultDirectory? = self
    while let current = directory, let parent = current.parent {
      names.append(current.name)
      directory = parent
    }
    return names.reversed().reduce(into: []) { $0 += [UInt8(ascii: "/")] + $1 }
  }

  func place(in parent: VaultDirectory, name: [UInt8], backingName: [UInt8]) {
    state.withLock {
      $0.parent = parent
      $0.name = name
      $0.backingName = backingName
    }
  }

  func isPlaced(in parent: VaultDirectory, as backingName: [UInt8]) -> Bool {
    state.withLock { $0.parent === parent && $0.backingName == backingName }
  }

  /// A descriptor of the backing directory, open with O_PATH: good for `*at` calls, status, and
  /// through /proc/self/fd for owner, mode, times and attributes.
  ///
  /// - Throws: `.system(.staleNFSFileHandle)` if the directory is no longer where it was.
  public func descriptor() throws(VaultError) -> SharedFD {
    while true {
      let (known, parent, backingName) = state.withLock { state in
        state.wasUsed = true
        return (state.descriptor, state.parent, state.backingName)
      }
      if let known { return known }
      do throws(VaultError) {
        return try open(parent, backingName)
      } catch .system(.staleNFSFileHandle, let reason) {
        // A rename may have come between.
        let isSame = state.withLock { $0.parent === parent && $0.backingName == backingName }
        if isSame { throw .system(.staleNFSFileHandle, reason) }
      } catch {
        throw error
      }
    }
  }

  private func open(
    _ parent: VaultDirectory?, _ backingName: [UInt8]
  ) throws(VaultError) -> SharedFD {
    let opened: SharedFD
    do throws(VaultError) {
      let directory = try parent?.descriptor() ?? context.base
      opened = try attempt("opening a directory") { () throws(Errno) in
        SharedFD(
          try Sys.openat(
            directory.rawValue, parent == nil ? Format.treeName : backingName,
            [.path, .directory, .noFollow]))
      }
    } catch .system(.noSuchFileOrDirectory, _) {
      throw .system(.staleNFSFileHandle, "a directory is gone")
    } catch {
      throw error
    }
    let status = try attempt("opening a directory") { () throws(Errno) in
      try Sys.fstatx(opened.rawValue, fields: .inode)
    }
    guard InodeIdentity(status) == identity else {
      throw .system(.staleNFSFileHandle, "another directory took this one's place")
    }
    state.withLock { $0.descriptor = opened }
    context.descriptors.admit(self)
    return opened
  }

  /// Lets go of names that are kept for lookups, of a directory that is as good as done with.
  public func forgetNames() { nameCache.removeAll() }

  /// The clock's question: gives the descriptor up unless it was used since the last time.
  func releaseDescriptorIfIdle() -> Bool {
    // Closed, if this was the last reference, only after the lock is given back.
    let (released, descriptor) = state.withLock { state -> (Bool, SharedFD?) in
      if state.wasUsed, state.descriptor != nil {
        state.wasUsed = false
        return (false, nil)
      }
      // No name leads to it any more.
      if state.isRemoved { return (true, nil) }
      defer { state.descriptor = nil }
      return (true, state.descriptor)
    }
    if released { nameCache.removeAll() }
    withExtendedLifetime(descriptor) {}
    return released
  }

  /// Whether the directory can still be found where it was last seen.
  func isInPlace() -> Bool {
    let (parent, backingName, removed) = state.withLock {
      ($0.parent, $0.backingName, $0.isRemoved)
    }
    if removed { return false }
    guard let parent else { return true }
    guard let directory = try? parent.descriptor(),
      let status = try? Sys.statx(directory.rawValue, backingName, fields: .inode)
    else { return false }
    return InodeIdentity(status) == identity
  }

  /// Opens the directory for reading or syncing.
  func reopened(_ flags: OpenFlags = [.readOnly, .directory]) throws(VaultError) -> SharedFD {
    let descriptor = try descriptor()
    return try withAccess(to: descriptor.rawValue, bits: 0o500) { () throws(Errno) in
      SharedFD(try Sys.openat(descriptor.rawValue, [UInt8(ascii: ".")], flags))
    }
  }

  /// Syncs the directory's entries and its record.
  ///
  /// - Throws: `.system`.
  public func sync() throws(VaultError) {
    let directory = try reopened()
    let serial = view.record.serial
    let isRecordSynced = state.withLock { $0.syncedSerial == serial }
    try attempt("syncing a directory") { () throws(Errno) in
      if !isRecordSynced,
        let record = try? Sys.openatWary(directory.rawValue, Format.recordName, .readOnly)
      {
        try Sys.fsync(record.rawValue)
      }
      try Sys.fsync(directory.rawValue)
    }
    if !isRecordSynced { state.withLock { $0.syncedSerial = serial } }
  }

  /// Runs a call that needs permissions its user may not have given himself: the owner of a
  /// directory may rename it, or list it into another record, although its mode says otherwise.
  ///
  /// - Parameters:
  ///   - descriptor: The file or directory, perhaps open with O_PATH.
  ///   - bits: The owner's permissions that the call needs.
  ///   - call: The call, run again with more permissions if it lacked them.
  /// - Returns: What the call returns.
  /// - Throws: `.system`.
  func withAccess<R>(
    to descriptor: Int32, bits: UInt32, _ call: () throws(Errno) -> R
  ) throws(VaultError) -> R {
    do throws(Errno) {
      return try call()
    } catch .permissionDenied where context.userID != 0 && context.isWritable {
      return try attempt("opening without permission") { () throws(Errno) in
        let mode = try Sys.fstatx(descriptor, fields: [.mode, .type]).mode & 0o7777
        guard mode & bits != bits else { throw .permissionDenied }
        try Sys.chmodPath(descriptor, mode: mode | bits)
        defer { try? Sys.chmodPath(descriptor, mode: mode) }
        return try call()
      }
    } catch {
      throw .system(error, "a directory's own access")
    }
  }
}

/// What a directory's valid records say together; immutable.
final class DirectoryView: Sendable {
  /// The directory's own record, with the policies of its alternates taken in.
  let record: DirectoryRecord
  /// Valid records with other IDs: their names are decoded too.
  let alternates: [DirectoryRecord]
  /// Whether the directory was searched for alternate records.
  let knowsAlternates: Bool
  let coder: NameCoder
  /// Those of `record`.
  let terms: EntryTerms

  init(
    _ record: DirectoryRecord, alternates: [DirectoryRecord], knowsAlternates: Bool,
    keys: MasterKeys
  ) {
    self.record = record
    self.alternates = alternates
    self.knowsAlternates = knowsAlternates
    coder = NameCoder(keys: keys, id: record.id, policy: record.names)
    terms = record.terms
  }
}
