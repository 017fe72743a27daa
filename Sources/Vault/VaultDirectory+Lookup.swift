import Container
import Logging
import Primitives
import SystemPackage

extension StatusFields {
  /// What every entry's status has.
  static let entry: StatusFields = [.basic, .btime]
}

extension VaultDirectory {
  /// Finds an entry: ordinarily one statx of the backing directory.
  ///
  /// - Parameter name: The plain name.
  /// - Returns: nil if there is none.
  /// - Throws: `.refused` for an entry the policy does not allow; `.system` (`.fileNameTooLong`,
  ///   `.invalidArgument` for what is no name).
  public func lookup(_ name: [UInt8]) throws(VaultError) -> VaultEntry? {
    try validate(name)
    let handle = try descriptor()
    defer { withExtendedLifetime(handle) {} }
    let directory = handle.rawValue
    let view = view
    if let entry = try find(name, view.record, view.terms, directory) { return entry }
    let complete = view.knowsAlternates ? view : try viewWithAlternates()
    if view.record != complete.record,
      let entry = try find(name, complete.record, complete.terms, directory)
    {
      return entry
    }
    for alternate in complete.alternates where complete.record.names == .sealed {
      if let entry = try find(name, alternate, alternate.terms, directory) { return entry }
    }
    return try findConflictCopy(name, complete, directory)
  }

  /// Finds an entry that must exist.
  func require(_ name: [UInt8]) throws(VaultError) -> VaultEntry {
    guard let entry = try lookup(name) else {
      throw .system(.noSuchFileOrDirectory, "no such entry")
    }
    return entry
  }

  func validate(_ name: [UInt8]) throws(VaultError) {
    if isValidName(name) { return }
    throw name.count > Format.maximumName
      ? .system(.fileNameTooLong, "a name has at most 255 bytes")
      : .system(.invalidArgument, "not a name")
  }

  /// The backing name of an entry of the directory's own record.
  func backingName(
    _ name: [UInt8], _ kind: EntryKind, _ record: DirectoryRecord
  ) throws(VaultError) -> NameCoder.BackingName {
    let own = view.coder
    let coder =
      own.id == record.id && own.policy == record.names
      ? own : NameCoder(keys: context.keys, id: record.id, policy: record.names)
    guard record.names == .sealed, record.id == id else {
      return try coder.encode(name, kind: kind)
    }
    let key = NameCache.Key(name: name, kind: kind)
    if let known = nameCache.backingName(key) {
      context.nameLookups.countHit()
      return NameCoder.BackingName(name: known, sidecar: nil)
    }
    context.nameLookups.countMiss()
    let backing = try coder.encode(name, kind: kind)
    // Hashed names are not kept: their sidecar's content is needed with them.
    if backing.sidecar == nil { nameCache.insert(key, backing.name) }
    return backing
  }

  private func find(
    _ name: [UInt8], _ record: DirectoryRecord, _ terms: EntryTerms, _ directory: Int32
  ) throws(VaultError) -> VaultEntry? {
    for kind in terms.kinds {
      let backing = try backingName(name, kind, record)
      guard let status = try status(directory, backing.name) else { continue }
      let origin = EntryOrigin(directory: record.id, name: name)
      let entry = try judge(name, kind, backing.name, status, terms, origin)
      if let sidecar = backing.sidecar, context.isWritable {
        // A tool may have lost it; the name could then be resolved, but not listed.
        try? restore(sidecar, directory)
      }
      return entry
    }
    return nil
  }

  func status(_ directory: Int32, _ name: [UInt8]) throws(VaultError) -> FileStatus? {
    do {
      return try Sys.statx(directory, name, fields: .entry)
    } catch .noSuchFileOrDirectory {
      return nil
    } catch .fileNameTooLong {
      // Filesystems with shorter names than 255 bytes hold none of these.
      return nil
    } catch {
      throw .system(error, "looking an entry up")
    }
  }

  private func findConflictCopy(
    _ name: [UInt8], _ view: DirectoryView, _ directory: Int32
  ) throws(VaultError) -> VaultEntry? {
    guard view.record.names == .sealed, let conflict = ConflictName(name),
      ConflictName.shown(conflict.original, addition: conflict.addition) == name,
      isValidName(conflict.original)
    else { return nil }
    for record in [view.record] + view.alternates {
      for kind in record.terms.kinds {
        let backing = try backingName(conflict.original, kind, record).name
        for candidate in ConflictName.backingNames(
          backing, suffix: kind.suffix(record.names) ?? [], addition: conflict.addition)
        {
          guard let status = try status(directory, candidate) else { continue }
          let origin = EntryOrigin(directory: record.id, name: conflict.original)
          return try judge(name, kind, candidate, status, record.terms, origin)
        }
      }
    }
    return nil
  }

  /// Decides what a backing inode is, or refuses it (format §5, §6).
  func judge(
    _ name: [UInt8], _ kind: EntryKind, _ backingName: [UInt8], _ status: FileStatus,
    _ terms: EntryTerms, _ origin: EntryOrigin
  ) throws(VaultError) -> VaultEntry {
    guard let mode = VaultDirectory.mode(kind, status.kind, terms) else {
      let reason =
        status.kind == .regular
        ? "a plaintext file where the policy allows none"
        : "an entry of a kind the directory does not have"
      context.logger.warning(
        "entry refused: \(reason)",
        metadata: [
          "directory": "\(id)", "inode": "\(status.inode)",
        ])
      throw .refused(reason)
    }
    return VaultEntry(
      name: name, kind: kind, mode: mode, backingName: backingName, status: status,
      origin: origin)
  }

  static func mode(_ kind: EntryKind, _ file: FileKind, _ terms: EntryTerms) -> InodeMode? {
    let allowed = terms.allowed
    switch (kind, file) {
    case (.primary, .directory): return .directory
    case (.primary, .symbolicLink): return .symbolicLink
    case (.primary, .regular):
      switch terms.names {
      case .sealed: return allowed.contains(.containers) ? .container : nil
      case .plain: return allowed.contains(.plainFiles) ? .plain : nil
      }
    case (.primary, .fifo), (.primary, .socket), (.primary, .characterDevice),
      (.primary, .blockDevice):
      return terms.names == .plain && allowed.contains(.specialFiles) ? .special : nil
    case (.special, .fifo), (.special, .socket), (.special, .characterDevice),
      (.special, .blockDevice):
      return allowed.contains(.specialFiles) ? .special : nil
    case (.container, .regular): return allowed.contains(.containers) ? .container : nil
    case (.plain, .regular): return allowed.contains(.plainFiles) ? .plain : nil
    case (.longLink, .regular): return allowed.contains(.longLinks) ? .longLink : nil
    default: return nil
    }
  }

  // MARK: Sidecars

  /// Reads a sidecar; nil where there is none that can be one. Any other failure counts: an entry must not be missing
  /// from a listing because its name could not be read just now.
  func readSidecar(_ name: [UInt8], _ directory: Int32) throws(VaultError) -> [UInt8]? {
    do throws(Errno) {
      let file = try context.openForReading(directory, name)
      guard try Sys.fstatx(file.rawValue, fields: .type).kind == .regular else { return nil }
      // The longest is base64 of a name of 255 bytes padded to 256, with its SIV.
      return try readWhole(file.rawValue, limit: 512)
    } catch .noSuchFileOrDirectory, .tooManySymbolicLinkLevels, .isDirectory, .permissionDenied,
      .noSuchAddressOrDevice
    {
      return nil
    } catch {
      throw .system(error, "reading the full form of a long name")
    }
  }

  private func restore(
    _ sidecar: NameCoder.Sidecar, _ directory: Int32
  ) throws(VaultError) {
    if try status(directory, sidecar.name) != nil { return }
    try write(sidecar, directory)
  }

  /// Writes a sidecar so that it is complete whenever it is there. Synced: the entry that follows
  /// may reach the disk first.
  func write(_ sidecar: NameCoder.Sidecar, _ directory: Int32) throws(VaultError) {
    let temporary = VaultDirectory.temporaryName()
    try attempt("writing a name's sidecar") { () throws(Errno) in
      let file = try Sys.openat(
        directory, temporary, [.writeOnly, .create, .exclusive, .noFollow], mode: 0o644)
      do throws(Errno) {
        try sidecar.content.withUnsafeBytesTyped { (buffer) throws(Errno) in
          try Sys.pwrite(file.rawValue, buffer, at: 0)
        }
        try Sys.fdatasync(file.rawValue)
        try Sys.renameat2(directory, temporary, directory, sidecar.name)
      } catch {
        try? Sys.unlinkat(directory, temporary)
        throw error
      }
    }
  }

  /// Runs a call that gives an entry its name, which may need a sidecar before.
  func naming<R>(
    _ what: @autoclosure () -> String, _ backing: NameCoder.BackingName, _ kind: EntryKind,
    _ directory: Int32, _ call: () throws(Errno) -> R
  ) throws(VaultError) -> R {
    if let sidecar = backing.sidecar { try write(sidecar, directory) }
    do {
      return try call()
    } catch {
      if backing.sidecar != nil { dropSidecar(backing.name, kind, directory) }
      throw .system(error, what())
    }
  }

  /// Removes the sidecar of an entry that is gone, unless one of another kind shares it.
  func dropSidecar(_ backing: [UInt8], _ kind: EntryKind, _ directory: Int32) {
    let policy = namePolicy
    let prefix = policy == .sealed ? [Format.longPrefix] : Format.plainLongPrefix
    guard backing.starts(with: prefix), let suffix = kind.suffix(policy) else { return }
    let stem = Array(backing[..<(backing.count - suffix.count)])
    guard stem.count == prefix.count + Format.hashCount else { return }
    for kind in EntryKind.allCases {
      guard let suffix = kind.suffix(policy) else { continue }
      do {
        _ = try Sys.statx(directory, stem + suffix, fields: .type)
        return
      } catch .noSuchFileOrDirectory {
        continue
      } catch {
        // Rather one too many than one that is missed.
        return
      }
    }
    try? Sys.unlinkat(directory, stem + Format.sidecarSuffix)
  }

  static func temporaryName() -> [UInt8] {
    Format.temporaryPrefix + Base64URL.encode(Random.bytes(12))
  }
}
