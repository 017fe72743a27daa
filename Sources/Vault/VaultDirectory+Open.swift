import Container
import Logging
import Primitives
import Synchronization
import SystemPackage

extension VaultDirectory {
  /// Opens `tree/`.
  static func openRoot(_ context: VaultContext) throws(VaultError) -> VaultDirectory {
    let descriptor: SharedFD
    do throws(Errno) {
      descriptor = SharedFD(
        try Sys.openat(
          context.base.rawValue, Format.treeName, [.path, .directory, .noFollow]))
    } catch {
      throw .system(error, "opening tree")
    }
    let status = try attempt("opening tree") { () throws(Errno) in
      try Sys.fstatx(descriptor.rawValue)
    }
    let view = try loadView(
      descriptor.rawValue, context, bindings: [context.keys.rootBinding], parent: nil,
      status: status)
    let directory = VaultDirectory(
      context, identity: InodeIdentity(status), view: view, parent: nil, name: [],
      backingName: Format.treeName, descriptor: descriptor)
    return context.directories.insert(directory, id: view.record.id)
  }

  /// Opens a directory in this one and authenticates its record.
  ///
  /// - Parameter entry: What `lookup` found.
  /// - Returns: The one object for that directory.
  /// - Throws: `.damaged` with what is wrong with the record, `.system` (`.notDirectory`,
  ///   `.staleNFSFileHandle` if the name now is another directory).
  public func openDirectory(_ entry: VaultEntry) throws(VaultError) -> VaultDirectory {
    guard entry.mode == .directory else { throw .system(.notDirectory, "opening a directory") }
    let parent = try descriptor()
    let opened = try attempt("opening a directory") { () throws(Errno) in
      SharedFD(
        try Sys.openat(parent.rawValue, entry.backingName, [.path, .directory, .noFollow]))
    }
    let status = try attempt("opening a directory") { () throws(Errno) in
      try Sys.fstatx(opened.rawValue)
    }
    guard InodeIdentity(status) == entry.identity else {
      throw .system(.staleNFSFileHandle, "another directory took this one's place")
    }
    let view: DirectoryView
    do throws(VaultError) {
      view = try VaultDirectory.loadView(
        opened.rawValue, context, bindings: acceptedBindings(entry), parent: self.view.record,
        status: status)
    } catch .damaged(let reason) {
      try requireStill(entry)
      throw .damaged(reason)
    } catch {
      throw error
    }
    return try enroll(entry.name, entry.backingName, status, view, opened)
  }

  /// Looks a directory up and opens it.
  ///
  /// - Parameter name: The plain name.
  /// - Returns: The one object for that directory.
  /// - Throws: As `lookup` and `openDirectory(_:)`; `.noSuchFileOrDirectory` within.
  public func openDirectory(named name: [UInt8]) throws(VaultError) -> VaultDirectory {
    try openDirectory(try require(name))
  }

  /// The bindings under which an entry is accepted.
  func acceptedBindings(_ entry: VaultEntry) -> [Binding] {
    var bindings = [context.keys.binding(of: entry.origin.name, in: entry.origin.directory)]
    let view = view
    guard view.record.names == .plain else { return bindings }
    // Plain names do not say which ID made them, nor that a tool has added something.
    var names = [entry.name]
    if entry.mode == .container, let conflict = ConflictName(entry.name) {
      names.append(conflict.original)
    }
    for name in names {
      for record in [view.record] + view.alternates {
        bindings.append(context.keys.binding(of: name, in: record.id))
      }
    }
    return bindings
  }

  /// Makes a directory that was just opened the one object for its ID.
  func enroll(
    _ name: [UInt8], _ backingName: [UInt8], _ status: FileStatus, _ view: DirectoryView,
    _ descriptor: SharedFD
  ) throws(VaultError) -> VaultDirectory {
    let candidate = VaultDirectory(
      context, identity: InodeIdentity(status), view: view, parent: self, name: name,
      backingName: backingName, descriptor: descriptor)
    let id = view.record.id
    // Ends at the first round unless another copy has just gone.
    for _ in 0..<3 {
      let known = context.directories.insert(candidate, id: id)
      if known === candidate {
        context.descriptors.admit(candidate)
        return candidate
      }
      if known.identity == candidate.identity {
        // Unless a rename that came after the lookup has placed it elsewhere.
        if !known.isPlaced(in: self, as: backingName), !known.isInPlace() {
          known.place(in: self, name: name, backingName: backingName)
        }
        return known
      }
      guard !known.isInPlace() else {
        context.logger.warning(
          "directory refused: another one with its ID is open", metadata: ["directory": "\(id)"])
        throw .damaged("the directory is a copy of another one")
      }
      context.directories.remove(known, id: id)
    }
    throw .damaged("the directory is a copy of another one")
  }

  // MARK: Records

  /// Reads and judges a directory's records (format §5, §11).
  ///
  /// - Parameters:
  ///   - directory: The directory, open with O_PATH.
  ///   - context: The vault.
  ///   - bindings: Where the directory was found.
  ///   - parent: What a directory whose record a power cut took gets its policies from.
  ///   - status: The directory's status.
  /// - Returns: What the valid records say together.
  /// - Throws: `.damaged` if there is none, `.system`.
  static func loadView(
    _ directory: Int32, _ context: VaultContext, bindings: [Binding], parent: DirectoryRecord?,
    status: FileStatus
  ) throws(VaultError) -> DirectoryView {
    let stored = try RecordFile.load(directory, context)
    let valid = stored.records.filter { record in
      record.bindings.contains { bindings.contains($0) }
    }
    if let own = valid.max(by: { $0.serial < $1.serial }).map({ newest in
      // Of equal serials the file's counts, which comes first.
      valid.first { $0.serial == newest.serial } ?? newest
    }) {
      // An older record with the same ID is only the copy that a crash kept from being replaced.
      let others = valid.filter { $0.id != own.id }
      return merge(own, others, knowsAlternates: false, context)
    }
    let alternates = try loadAlternates(directory, context).map(\.record).filter { record in
      record.bindings.contains { bindings.contains($0) }
    }
    if let own = alternates.max(by: { $0.serial < $1.serial }) {
      return merge(own, alternates, knowsAlternates: true, context)
    }
    if let parent, context.isExcused(status.ctime), try holdsNothing(directory, context),
      let binding = bindings.first
    {
      return try replaceLostRecord(directory, parent.child(at: binding), context)
    }
    let reason =
      if !stored.records.isEmpty {
        "the directory's record belongs to another place"
      } else if stored.isPresent {
        "the directory's record does not authenticate"
      } else {
        "the directory has no record"
      }
    context.logger.warning(
      "directory unreadable: \(reason)",
      metadata: ["inode": "\(status.inode)", "parent": "\(parent?.id.description ?? "-")"])
    throw .damaged(reason)
  }

  private static func replaceLostRecord(
    _ directory: Int32, _ record: DirectoryRecord, _ context: VaultContext
  ) throws(VaultError) -> DirectoryView {
    if context.isWritable {
      try RecordFile.store(record, keys: context.keys, in: directory, durable: true)
      context.logger.notice("new record for an empty directory that a power cut left without one")
    }
    return DirectoryView(record, alternates: [], knowsAlternates: true, keys: context.keys)
  }

  /// Takes other valid records into the directory's own.
  private static func merge(
    _ own: DirectoryRecord, _ records: [DirectoryRecord], knowsAlternates: Bool,
    _ context: VaultContext
  ) -> DirectoryView {
    var merged = own
    var others: [DirectoryRecord] = []
    for record in records {
      if record.id != own.id {
        if !others.contains(where: { $0.id == record.id }) { others.append(record) }
        continue
      }
      merged.flags.formUnion(record.flags)
      if record.content.strictness > merged.content.strictness { merged.content = record.content }
      if record.names == .sealed { merged.names = .sealed }
      if record.serial > merged.serial {
        merged.serial = record.serial
        merged.rules = record.rules
      }
    }
    return DirectoryView(
      merged, alternates: others, knowsAlternates: knowsAlternates, keys: context.keys)
  }

  /// The view, after looking once for the records a synchronising tool set aside.
  func viewWithAlternates() throws(VaultError) -> DirectoryView {
    let view = view
    if view.knowsAlternates { return view }
    let descriptor = try descriptor()
    let places = ownBindings()
    let alternates = try VaultDirectory.loadAlternates(descriptor.rawValue, context)
      .map(\.record).filter { record in record.bindings.contains { places.contains($0) } }
    let complete = VaultDirectory.merge(
      view.record, alternates + view.alternates, knowsAlternates: true, context)
    setView(complete)
    return complete
  }

  private func ownBindings() -> [Binding] {
    guard let parent else { return [context.keys.rootBinding] }
    // A directory is also where its record says; the record was checked against it when opened.
    return [context.keys.binding(of: name, in: parent.id)] + view.record.bindings
  }

  /// Whether a name begins like one that ``isAlternate(_:)`` accepts.
  private static func mayBeAlternate(_ name: UnsafeRawBufferPointer) -> Bool {
    // That of a record, or of what a tool puts before it.
    name[0] == Format.recordName[0] || name[0] == UInt8(ascii: " ")
  }

  /// Whether a synchronising tool may have given a record this name (format §11).
  static func isAlternate(_ name: [UInt8]) -> Bool {
    if name == Format.recordName || name == Format.newRecordName { return false }
    return name.starts(with: Format.recordName)
      || ConflictName(name)?.original == Format.recordName
  }

  static func loadAlternates(
    _ directory: Int32, _ context: VaultContext
  ) throws(VaultError) -> [(name: [UInt8], record: DirectoryRecord)] {
    do throws(Errno) {
      let listing = try context.openForReading(directory, [UInt8(ascii: ".")], .directory)
      var records: [(name: [UInt8], record: DirectoryRecord)] = []
      for entry in try Sys.entries(of: listing.rawValue, where: mayBeAlternate)
      where isAlternate(entry.name) {
        guard let bytes = try readAlternate(entry.name, directory, context),
          let record = DirectoryRecord(opening: bytes, with: context.keys)
        else { continue }
        records.append((entry.name, record))
      }
      return records
    } catch .permissionDenied {
      // Whoever may not list the directory cannot see its alternates either.
      return []
    } catch {
      throw .system(error, "reading a directory")
    }
  }

  /// nil for what is no file that may be read. Any other failure counts: the stricter policy may be
  /// the one that could not be read.
  private static func readAlternate(
    _ name: [UInt8], _ directory: Int32, _ context: VaultContext
  ) throws(Errno) -> [UInt8]? {
    do throws(Errno) {
      let file = try context.openForReading(directory, name)
      return try readWhole(file.rawValue, limit: Format.maximumRecord + 1)
    } catch .noSuchFileOrDirectory, .tooManySymbolicLinkLevels, .isDirectory, .permissionDenied,
      .noSuchAddressOrDevice
    {
      return nil
    }
  }

  /// Whether a directory has no entries but reserved ones.
  private static func holdsNothing(
    _ directory: Int32, _ context: VaultContext
  ) throws(VaultError) -> Bool {
    try attempt("reading a directory") { () throws(Errno) in
      let listing = try context.openForReading(directory, [UInt8(ascii: ".")], .directory)
      return try Sys.entries(of: listing.rawValue).allSatisfy {
        $0.name.starts(with: Format.reservedPrefix)
      }
    }
  }

  /// Replaces the record; nothing is written if the change leaves it as it is.
  ///
  /// - Returns: Whether the backing filesystem keeps this change and later ones in their order.
  @discardableResult
  func updateRecord(_ change: (inout DirectoryRecord) -> Void) throws(VaultError) -> Bool {
    try context.requireWritable()
    return try recordChanges.withLock { (_) throws(VaultError) in
      let view = try viewWithAlternates()
      var record = view.record
      change(&record)
      if record == view.record { return true }
      record.serial &+= 1
      let descriptor = try descriptor()
      let isOrdered = try replaceRecord(record, descriptor.rawValue)
      setView(
        DirectoryView(
          record, alternates: view.alternates, knowsAlternates: true, keys: context.keys))
      return isOrdered
    }
  }

  private func replaceRecord(
    _ record: DirectoryRecord, _ descriptor: Int32
  ) throws(VaultError) -> Bool {
    // The owner of a directory he may not write into can still rename it.
    var outcome: Result<Bool, VaultError> = .success(true)
    try withAccess(to: descriptor, bits: 0o700) { () throws(Errno) in
      do throws(VaultError) {
        let times = try? Sys.fstatx(descriptor, fields: .basic)
        let isOrdered = try RecordFile.store(
          record, keys: context.keys, in: descriptor, durable: false)
        if let times {
          // Nothing happened that the plain directory has changed by.
          try? Sys.futimens(
            descriptor, access: .set(times.atime), modification: .set(times.mtime))
        }
        outcome = .success(isOrdered)
      } catch {
        if case .system(.permissionDenied, _) = error { throw .permissionDenied }
        RecordFile.restoreAttribute(view.record, keys: context.keys, in: descriptor)
        outcome = .failure(error)
      }
    }
    return try outcome.get()
  }

  /// Says in the record that entries of a kind may exist, before the first one is made.
  func announce(_ flags: PresenceFlags) throws(VaultError) {
    if view.record.allowed.isSuperset(of: flags) { return }
    try updateRecord { $0.flags.formUnion(flags) }
  }
}
