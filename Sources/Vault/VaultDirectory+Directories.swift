import Container
import Primitives
import SystemPackage

extension VaultDirectory {
  /// Makes a directory; it inherits policies and rules.
  ///
  /// - Parameters:
  ///   - name: The plain name; it must not exist.
  ///   - mode: Permission bits, from which the caller's umask is already taken.
  ///   - owner: Who it belongs to; counts only when this process is root.
  /// - Returns: The entry, and the directory already open.
  /// - Throws: `.system` (`.fileExists` among others), `.readOnly`.
  public func makeDirectory(
    _ name: [UInt8], mode: UInt32, owner: Owner?
  ) throws(VaultError) -> (entry: VaultEntry, directory: VaultDirectory) {
    try changing { (directory) throws(VaultError) in
      try validate(name)
      // Exclusive creation happens under a reserved name, so this looks for the real one.
      if try lookup(name) != nil { throw .system(.fileExists, "the name exists") }
      let record = view.record
      let backing = try backingName(name, .primary, record)
      let child = record.child(at: context.keys.binding(of: name, in: record.id))
      let opened = try makeRecorded(child, mode, owner, directory, at: backing)
      let status = try attempt("making a directory") { () throws(Errno) in
        try Sys.fstatx(opened.rawValue, fields: .entry)
      }
      let view = DirectoryView(
        child, alternates: [], knowsAlternates: true, keys: context.keys)
      let entry = VaultEntry(
        name: name, kind: .primary, mode: .directory, backingName: backing.name, status: status,
        origin: EntryOrigin(directory: record.id, name: name))
      return (entry, try enroll(name, backing.name, status, view, opened))
    }
  }

  /// Makes a directory with its record under a reserved name and moves it into place.
  private func makeRecorded(
    _ record: DirectoryRecord, _ mode: UInt32, _ owner: Owner?, _ directory: Int32,
    at backing: NameCoder.BackingName
  ) throws(VaultError) -> SharedFD {
    let temporary = VaultDirectory.temporaryName()
    // The record must be written whatever permissions the directory is to have.
    let lacking = ~mode & 0o700
    let added: UInt32 = context.userID == 0 ? 0 : lacking
    try attempt("making a directory") { () throws(Errno) in
      try Sys.mkdirat(directory, temporary, mode: mode & 0o7777 | added)
    }
    do throws(VaultError) {
      let opened = try attempt("making a directory") { () throws(Errno) in
        SharedFD(try Sys.openat(directory, temporary, [.path, .directory, .noFollow]))
      }
      try RecordFile.store(record, keys: context.keys, in: opened.rawValue, durable: false)
      try naming("making a directory", backing, .primary, directory) { () throws(Errno) in
        try context.giveTo(owner, opened.rawValue, mode: mode, in: directory)
        if added != 0 {
          // Only the owner's bits change: with a default ACL the others are its mask.
          let present = try Sys.fstatx(opened.rawValue, fields: .mode).mode & 0o7777
          try Sys.chmodPath(opened.rawValue, mode: present & ~added)
        }
        try renameToNew(directory, temporary, directory, backing.name)
      }
      return opened
    } catch {
      removeTemporary(temporary, directory)
      throw error
    }
  }

  /// Removes an empty directory with its record and whatever a crash left in it.
  ///
  /// - Parameter name: The plain name.
  /// - Throws: `.system` (`.directoryNotEmpty`, `.notDirectory`, `.noSuchFileOrDirectory`).
  public func removeDirectory(_ name: [UInt8]) throws(VaultError) {
    try changing { (directory) throws(VaultError) in
      let entry = try require(name)
      guard entry.mode == .directory else { throw .system(.notDirectory, "not a directory") }
      try discard(entry, directory)
      dropSidecar(entry.backingName, entry.kind, directory)
    }
  }

  /// Takes a directory that must be empty out of the way, then removes it. A power cut leaves it
  /// complete at its name, or under a reserved one.
  func discard(_ entry: VaultEntry, _ directory: Int32) throws(VaultError) {
    let opened = try attempt("removing a directory") { () throws(Errno) in
      SharedFD(
        try Sys.openat(directory, entry.backingName, [.path, .directory, .noFollow]))
    }
    guard try isEmpty(opened.rawValue) else {
      throw .system(.directoryNotEmpty, "the directory is not empty")
    }
    let record = (try? RecordFile.load(opened.rawValue, context))?.records.first
    let child = record.flatMap { context.directories.find($0.id) }
    let known = child?.identity == entry.identity ? child : nil
    known?.markRemoved(true)
    let temporary = VaultDirectory.temporaryName()
    do throws(VaultError) {
      try attempt("removing a directory") { () throws(Errno) in
        try Sys.renameat2(directory, entry.backingName, directory, temporary)
      }
      do throws(VaultError) {
        // Whoever was about to create something in it has done so by now or never will.
        guard try isEmpty(opened.rawValue) else {
          throw .system(.directoryNotEmpty, "the directory is not empty")
        }
      } catch {
        try? renameToNew(directory, temporary, directory, entry.backingName)
        throw error
      }
    } catch {
      known?.markRemoved(false)
      throw error
    }
    removeTemporary(temporary, directory)
    if let known { context.directories.remove(known, id: known.id) }
  }

  /// Whether there are no entries, nor anything else that does not belong to the directory itself.
  ///
  /// - Throws: `.system`.
  public func isEmpty() throws(VaultError) -> Bool {
    let descriptor = try descriptor()
    defer { withExtendedLifetime(descriptor) {} }
    return try isEmpty(descriptor.rawValue)
  }

  /// Whether a directory has only what belongs to the directory itself.
  func isEmpty(_ descriptor: Int32) throws(VaultError) -> Bool {
    try names(in: descriptor).allSatisfy(VaultDirectory.isReserved)
  }

  private func names(in descriptor: Int32) throws(VaultError) -> [[UInt8]] {
    try withAccess(to: descriptor, bits: 0o500) { () throws(Errno) in
      let listing = try Sys.openat(
        descriptor, [UInt8(ascii: ".")], [.readOnly, .directory])
      return try Sys.entries(of: listing.rawValue).map { $0.name }
    }
  }

  /// Records, temporary names, sidecars; not the entries whose stored names begin alike.
  static func isReserved(_ name: [UInt8]) -> Bool {
    let isSidecar = name.hasSuffix(Format.sidecarSuffix)
    let base = name.count - Format.sidecarSuffix.count
    if isSidecar, name.starts(with: [Format.longPrefix]), base == 1 + Format.hashCount {
      return true
    }
    if name.starts(with: Format.plainLongPrefix) {
      return isSidecar && base == Format.plainLongPrefix.count + Format.hashCount
    }
    if isAlternate(name) { return true }
    return name.starts(with: Format.reservedPrefix) && !name.starts(with: Format.plainEscape)
  }

  /// Removes something under a temporary name, a directory with all that is reserved in it. What
  /// cannot be removed stays for `check`, as does what is deeper than anything that this program leaves.
  func removeTemporary(_ name: [UInt8], _ directory: Int32, depth: Int = 0) {
    do throws(Errno) {
      try Sys.unlinkat(directory, name)
      return
    } catch .isDirectory {
      // Emptied below.
    } catch {
      return
    }
    guard depth < 16,
      let opened = try? Sys.openat(directory, name, [.path, .directory, .noFollow]),
      let inside = try? names(in: opened.rawValue)
    else { return }
    try? withAccess(to: opened.rawValue, bits: 0o700) { () throws(Errno) in
      for inner in inside where VaultDirectory.isReserved(inner) {
        do throws(Errno) {
          try Sys.unlinkat(opened.rawValue, inner)
        } catch .isDirectory {
          removeTemporary(inner, opened.rawValue, depth: depth + 1)
        }
      }
    }
    try? Sys.unlinkat(directory, name, isDirectory: true)
  }

  // MARK: Files

  /// Removes a name of anything but a directory.
  ///
  /// - Parameters:
  ///   - name: The plain name.
  ///   - prepare: Told what will be removed, while nobody else changes it.
  /// - Returns: What was removed.
  /// - Throws: `.system` (`.isDirectory`, `.noSuchFileOrDirectory`), `.refused` for an entry the
  ///   policy does not allow: that is evidence, which only `check` removes.
  @discardableResult
  public func removeFile(
    _ name: [UInt8], prepare: (VaultEntry) -> Void = { _ in }
  ) throws(VaultError) -> VaultEntry {
    try changing { (directory) throws(VaultError) in
      let entry = try require(name)
      guard entry.mode != .directory else { throw .system(.isDirectory, "a directory") }
      prepare(entry)
      try unlink(entry, directory)
      return entry
    }
  }

  func unlink(_ entry: VaultEntry, _ directory: Int32) throws(VaultError) {
    try attempt("removing a file") { () throws(Errno) in
      try Sys.unlinkat(directory, entry.backingName)
    }
    dropSidecar(entry.backingName, entry.kind, directory)
    forgetBinding(of: entry)
  }

  /// Drops the binding of a name that is gone from a container that lives on, with its next commit.
  func forgetBinding(of entry: VaultEntry) {
    guard entry.mode == .container, entry.status.links > 1,
      let open = context.containers.find(entry.identity)
    else { return }
    open.file.removeBinding(
      context.keys.binding(of: entry.origin.name, in: entry.origin.directory))
  }
}
