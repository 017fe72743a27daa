public import Container
public import Primitives
import SystemPackage

/// A file on its way into a directory: it has its name only when it is whole.
public struct IncomingFile: Sendable {
  /// The plain name it will have.
  public let name: [UInt8]
  /// How it is stored.
  public let policy: ContentPolicy
  /// The backing file, open for reading and writing.
  public let descriptor: SharedFD
  /// The content, unless the file is plain.
  public let container: VaultContainer?
  /// The attributes of the file.
  public let attributes: Attributes

  /// nil where the backing filesystem has files without a name.
  fileprivate let temporaryName: [UInt8]?
}

extension VaultDirectory {
  /// Starts a file that will be named later. A program that dies before that leaves nothing, or
  /// where the backing filesystem has no unnamed files, something under a reserved name.
  ///
  /// - Parameters:
  ///   - name: The plain name it will have.
  ///   - policy: How it is stored; nil for what rules and policy say.
  /// - Returns: The file, with mode 0600.
  /// - Throws: `.system`, `.readOnly`.
  public func beginFile(
    _ name: [UInt8], policy: ContentPolicy? = nil
  ) throws(VaultError) -> IncomingFile {
    try changing { (directory) throws(VaultError) in
      try validate(name)
      let record = try viewWithAlternates().record
      let policy = policy ?? record.policy(for: name)
      let (descriptor, temporary) = try attempt("creating a file") { () throws(Errno) in
        try openIncoming(directory)
      }
      let status = try attempt("creating a file") { () throws(Errno) in
        try Sys.fstatx(descriptor.rawValue, fields: .entry)
      }
      var container: VaultContainer?
      if policy != .plain {
        let binding = context.keys.binding(of: name, in: record.id)
        container = try newContainer(descriptor, status, policy, [binding])
      }
      return IncomingFile(
        name: name, policy: policy, descriptor: descriptor, container: container,
        attributes: container?.attributes
          ?? Attributes(context: context, descriptor: descriptor, scheme: .plain),
        temporaryName: temporary)
    }
  }

  /// A new backing file without a name; with a temporary one where there are no such files.
  func openIncoming(
    _ directory: Int32
  ) throws(Errno) -> (descriptor: SharedFD, temporary: [UInt8]?) {
    do throws(Errno) {
      let unnamed = try Sys.openat(
        directory, [UInt8(ascii: ".")], [.readWrite, .temporaryFile], mode: 0o600)
      return (SharedFD(unnamed), nil)
    } catch .notSupportedOnSocket, .isDirectory {
      // EOPNOTSUPP, or EISDIR from what does not know O_TMPFILE at all.
      let temporary = VaultDirectory.temporaryName()
      let named = try Sys.openat(
        directory, temporary, [.readWrite, .create, .exclusive, .noFollow], mode: 0o600)
      return (SharedFD(named), temporary)
    }
  }

  /// Gives a file its name. Its content has been committed and synced.
  ///
  /// - Parameter file: What `beginFile` of this directory made.
  /// - Returns: The new entry.
  /// - Throws: `.system` (`.fileExists`), `.readOnly`.
  public func finishFile(_ file: IncomingFile) throws(VaultError) -> VaultEntry {
    try changing { (directory) throws(VaultError) in
      let isPlain = file.container == nil
      let record = try viewWithAlternates().record
      let kind = EntryKind.of(isPlain ? .plain : .container, names: record.names)
      try requireFree(file.name, for: kind)
      try announce(isPlain ? .plainFiles : .containers)
      let backing = try backingName(file.name, kind, view.record)
      try naming("naming a file", backing, kind, directory) { () throws(Errno) in
        if let temporary = file.temporaryName {
          try renameToNew(directory, temporary, directory, backing.name)
        } else {
          try Sys.link(file.descriptor.rawValue, to: directory, backing.name)
        }
      }
      return try require(file.name)
    }
  }

  /// Gives a file up that was begun.
  ///
  /// - Parameter file: What `beginFile` of this directory made.
  public func cancelFile(_ file: IncomingFile) {
    guard let temporary = file.temporaryName else { return }
    try? changing { (directory) throws(VaultError) in
      try? Sys.unlinkat(directory, temporary)
    }
  }

  /// Removes what a listing met under a temporary name, if an earlier session left it there. Links
  /// stay: they may be what an interrupted exchange waits for.
  func sweep(_ name: [UInt8], _ kind: FileKind, _ directory: Int32) {
    guard name.starts(with: Format.temporaryPrefix), context.isWritable, kind != .symbolicLink,
      let status = try? Sys.statx(directory, name, fields: .basic),
      status.kind == .regular || status.kind == .directory,
      context.session.isPredated(by: status.ctime)
    else { return }
    removeTemporary(name, directory)
  }

  /// Removes what a writer that was killed left under temporary names. Nobody else may be making
  /// entries here.
  ///
  /// - Throws: `.system`, `.readOnly`.
  public func removeLeftovers() throws(VaultError) {
    try settleLinks()
    try changing { (directory) throws(VaultError) in
      let listing = try reopened()
      var names: [[UInt8]] = []
      try attempt("reading a directory") { () throws(Errno) in
        try Sys.forEachEntry(of: listing.rawValue) {
          if $0.name.starts(with: Format.temporaryPrefix) { names.append([UInt8]($0.name)) }
          return true
        }
      }
      for name in names { removeTemporary(name, directory) }
    }
  }

  /// Finishes exchanges of links that were interrupted: what waits for that is no leftover.
  private func settleLinks() throws(VaultError) {
    let listing = try reopened()
    var isWaiting = false
    try attempt("reading a directory") { () throws(Errno) in
      try Sys.forEachEntry(of: listing.rawValue) {
        isWaiting = $0.kind == .symbolicLink && $0.name.starts(with: Format.temporaryPrefix)
        return !isWaiting
      }
    }
    guard isWaiting else { return }
    for item in try list() where item.kind == .symbolicLink {
      // One that does not open is damaged with its leftovers, too.
      if let entry = try? lookup(item.name) { _ = try? readLink(entry) }
    }
  }

  /// Moves a plain file or special file from outside the vault into this directory, as it is.
  ///
  /// - Parameters:
  ///   - source: The directory it is in.
  ///   - sourceName: Its name there.
  ///   - name: The plain name here; it must not exist.
  ///   - mode: `.plain` or `.special`.
  ///   - keepsSource: Whether it stays there under its old name, too.
  /// - Returns: The new entry.
  /// - Throws: `.system` (`.improperLink` where the file is on another filesystem, `.fileExists`),
  ///   `.readOnly`.
  public func adopt(
    from source: Int32, _ sourceName: [UInt8], as name: [UInt8], _ mode: InodeMode,
    keepsSource: Bool = false
  ) throws(VaultError) -> VaultEntry {
    try changing { (directory) throws(VaultError) in
      if try lookup(name) != nil { throw .system(.fileExists, "the name exists") }
      let record = try viewWithAlternates().record
      try announce(mode == .plain ? .plainFiles : .specialFiles)
      let kind = EntryKind.of(mode, names: record.names)
      let backing = try backingName(name, kind, view.record)
      try naming("moving a file into the vault", backing, kind, directory) { () throws(Errno) in
        if keepsSource {
          try Sys.linkat(source, sourceName, directory, backing.name)
        } else {
          try renameToNew(source, sourceName, directory, backing.name)
        }
      }
      return try require(name)
    }
  }

  /// Gives a file another name, also where files of that name would be stored in another mode.
  ///
  /// - Parameters:
  ///   - entry: A file or special file that `lookup` found in this directory.
  ///   - target: The directory of the new name, perhaps this one.
  ///   - name: The new plain name; it must not exist.
  /// - Returns: The new entry.
  /// - Throws: `.system`, `.damaged`, `.container`, `.readOnly`.
  public func linkInAnyMode(
    _ entry: VaultEntry, to target: VaultDirectory, as name: [UInt8]
  ) throws(VaultError) -> VaultEntry {
    let flags: PresenceFlags
    switch entry.mode {
    case .plain: flags = .plainFiles
    case .container: flags = .containers
    case .special: flags = .specialFiles
    case .directory, .symbolicLink, .longLink:
      throw .system(.invalidArgument, "only files are linked")
    }
    return try VaultDirectory.changing(self, target) { (from, into) throws(VaultError) in
      try requireStill(entry)
      if try target.lookup(name) != nil { throw .system(.fileExists, "the name exists") }
      try target.announce(flags)
      if entry.mode == .container {
        let container = try openContainer(entry)
        container.file.addBinding(context.keys.binding(of: name, in: target.id))
        try container.sync(modificationTime: entry.status.mtime)
      }
      let kind = EntryKind.of(entry.mode, names: target.namePolicy)
      let backing = try target.backingName(name, kind, target.view.record)
      try target.naming("making a hard link", backing, kind, into) { () throws(Errno) in
        try Sys.linkat(from, entry.backingName, into, backing.name)
      }
      return try target.require(name)
    }
  }
}
