import Container
public import Primitives
import SystemPackage

extension VaultDirectory {
  /// Renames an entry.
  ///
  /// Within a directory everything may be renamed. Into another directory: directories, links and
  /// special files always, a file only where its own mode is what the name would get there.
  ///
  /// - Parameters:
  ///   - name: The plain name here.
  ///   - target: The other directory, perhaps this one.
  ///   - newName: The plain name there.
  ///   - flags: `.noReplace` or `.exchange`.
  /// - Returns: The moved entry as a lookup now gives it, and with `.exchange` the other one. A
  ///   sealed symbolic link is a new inode afterwards.
  /// - Throws: `.crossPolicy`, `.system` with what rename(2) would give, `.damaged`, `.container`.
  @discardableResult
  public func rename(
    _ name: [UInt8], to target: VaultDirectory, _ newName: [UInt8], flags: RenameFlags = []
  ) throws(VaultError) -> (moved: VaultEntry, exchanged: VaultEntry?) {
    guard flags.isSubset(of: [.noReplace, .exchange]), flags != [.noReplace, .exchange] else {
      throw .system(.invalidArgument, "flags a rename does not have here")
    }
    try target.validate(newName)
    return try VaultDirectory.changing(self, target) { (from, into) throws(VaultError) in
      try rename(
        try require(name), to: target, newName, replacing: try target.lookup(newName), flags,
        from, into)
    }
  }

  /// Renames what was looked up a moment ago: as above, but the caller keeps everybody else from
  /// changing the two names meanwhile, as the kernel does for its own requests.
  ///
  /// - Parameters:
  ///   - source: The entry here.
  ///   - target: The other directory, perhaps this one.
  ///   - newName: The plain name there.
  ///   - replaced: The entry that has that name.
  ///   - flags: `.noReplace` or `.exchange`.
  /// - Returns: As above.
  /// - Throws: As above.
  @discardableResult
  public func rename(
    _ source: VaultEntry, to target: VaultDirectory, _ newName: [UInt8],
    replacing replaced: VaultEntry?, flags: RenameFlags
  ) throws(VaultError) -> (moved: VaultEntry, exchanged: VaultEntry?) {
    try target.validate(newName)
    return try VaultDirectory.changing(self, target) { (from, into) throws(VaultError) in
      try rename(source, to: target, newName, replacing: replaced, flags, from, into)
    }
  }

  private func rename(
    _ source: VaultEntry, to target: VaultDirectory, _ newName: [UInt8],
    replacing replaced: VaultEntry?, _ flags: RenameFlags, _ from: Int32, _ into: Int32
  ) throws(VaultError) -> (moved: VaultEntry, exchanged: VaultEntry?) {
    if flags.contains(.exchange) {
      guard let replaced else {
        throw .system(.noSuchFileOrDirectory, "nothing to exchange with")
      }
      try exchange(source, target, replaced, from, into)
      return (try target.require(newName), try require(source.name))
    }
    if replaced != nil, flags.contains(.noReplace) {
      throw .system(.fileExists, "the name exists")
    }
    if let replaced, replaced.identity == source.identity {
      // Two names of one inode (or one name): rename(2) does nothing.
      return (replaced, nil)
    }
    return (try move(source, target, newName, replaced, from, into), nil)
  }

  private func move(
    _ source: VaultEntry, _ target: VaultDirectory, _ name: [UInt8], _ replaced: VaultEntry?,
    _ from: Int32, _ into: Int32
  ) throws(VaultError) -> VaultEntry {
    if let replaced {
      if source.mode == .directory, replaced.mode != .directory {
        throw .system(.notDirectory, "a directory cannot replace a file")
      }
      if source.mode != .directory, replaced.mode == .directory {
        throw .system(.isDirectory, "a file cannot replace a directory")
      }
    }
    switch source.mode {
    case .directory:
      try moveDirectory(source, target, name, replaced, from, into)
      return try target.require(name)
    case .symbolicLink, .longLink:
      if try keepsTarget(source, in: target, from) { fallthrough }
      try moveLink(source, target, name, replaced, from, into)
      return try target.require(name)
    case .plain, .container, .special:
      try prepareMove(source, to: target, as: name, isNewLink: false)
      if replaced != nil { try syncBeforeReplacing(source) }
      let kind = EntryKind.of(source.mode, names: target.namePolicy)
      let backing = try target.backingName(name, kind, target.view.record)
      try target.naming("renaming a file", backing, kind, into) { () throws(Errno) in
        try Sys.renameat2(from, source.backingName, into, backing.name)
      }
      if let replaced {
        do throws(VaultError) {
          try target.removeReplaced(replaced, unless: backing.name, into)
        } catch {
          try? Sys.renameat2(into, backing.name, from, source.backingName)
          throw error
        }
      }
      dropSidecar(source.backingName, source.kind, from)
      dropOldBinding(source)
      return VaultEntry(
        name: name, kind: kind, mode: source.mode, backingName: backing.name,
        status: source.status, origin: EntryOrigin(directory: target.view.record.id, name: name))
    }
  }

  // MARK: Files

  /// Checks that the target stores such a file, announces it there, and binds a container to its
  /// new name before it has it.
  func prepareMove(
    _ entry: VaultEntry, to target: VaultDirectory, as name: [UInt8], isNewLink: Bool
  ) throws(VaultError) {
    let record = target.view.record
    let isWithin = target === self
    switch entry.mode {
    case .plain:
      guard isWithin || record.policy(for: name) == .plain else { throw .crossPolicy }
      try target.announce(.plainFiles)
    case .special:
      try target.announce(.specialFiles)
    case .container:
      let container = try openContainer(entry)
      guard isWithin || record.policy(for: name) == container.file.policy else {
        throw .crossPolicy
      }
      try target.announce(.containers)
      let binding = context.keys.binding(of: name, in: record.id)
      let file = container.file
      if !file.bindingsOverflow, !file.isBound(toAnyOf: [binding]) {
        if entry.status.links == 1, !isNewLink {
          // Whatever else it was bound to, it has only this one name.
          let present = context.keys.binding(of: entry.origin.name, in: entry.origin.directory)
          file.setBindings([present, binding], overflow: false)
        } else {
          file.addBinding(binding)
        }
      }
      try commitKeepingTime(container, entry)
    case .directory, .symbolicLink, .longLink: break
    }
  }

  private func commitKeepingTime(
    _ container: VaultContainer, _ entry: VaultEntry
  ) throws(VaultError) {
    let status = try attempt("reading a file's status") { () throws(Errno) in
      try Sys.fstatx(container.descriptor.rawValue, fields: .mtime)
    }
    try container.commit(modificationTime: status.mtime, hint: .ifWrong)
  }

  /// The old name's binding goes with the next commit, whenever that is.
  private func dropOldBinding(_ entry: VaultEntry) {
    guard entry.mode == .container, let open = context.containers.find(entry.identity) else {
      return
    }
    open.file.removeBinding(
      context.keys.binding(of: entry.origin.name, in: entry.origin.directory))
  }

  /// What replaces a durable file must be durable itself, or a power cut could leave neither.
  private func syncBeforeReplacing(_ entry: VaultEntry) throws(VaultError) {
    guard entry.mode == .container else { return }
    let container = try openContainer(entry)
    if !container.file.isDurable {
      let status = try attempt("reading a file's status") { () throws(Errno) in
        try Sys.fstatx(container.descriptor.rawValue, fields: .mtime)
      }
      try container.sync(modificationTime: status.mtime)
    }
  }

  /// Removes what a rename replaced but, being of another kind, did not overwrite.
  func removeReplaced(
    _ replaced: VaultEntry, unless backingName: [UInt8], _ directory: Int32
  ) throws(VaultError) {
    if replaced.backingName != backingName {
      try attempt("removing what was replaced") { () throws(Errno) in
        try Sys.unlinkat(directory, replaced.backingName)
      }
      dropSidecar(replaced.backingName, replaced.kind, directory)
    }
    forgetBinding(of: replaced)
  }

  // MARK: Symbolic links

  /// Makes a link's stored form for another name, with owner and times as far as possible.
  func copyLink(
    _ entry: VaultEntry, to target: VaultDirectory, as name: [UInt8], _ from: Int32,
    _ into: Int32
  ) throws(VaultError) -> (temporary: [UInt8], kind: EntryKind) {
    let content = try targetForCopy(entry)
    let copy = try target.prepareLink(name, content, into)
    try? copyLinkAttributes(entry, target, name, copy, into)
    try? Sys.fchownat(into, copy.temporary, uid: entry.status.uid, gid: entry.status.gid)
    try? Sys.utimensat(
      into, copy.temporary, access: .set(entry.status.atime),
      modification: .set(entry.status.mtime))
    return copy
  }

  private func copyLinkAttributes(
    _ entry: VaultEntry, _ target: VaultDirectory, _ name: [UInt8],
    _ copy: (temporary: [UInt8], kind: EntryKind), _ into: Int32
  ) throws(VaultError) {
    let old = try attributes(of: entry)
    let names = try old.list()
    guard !names.isEmpty, let status = try target.status(into, copy.temporary) else { return }
    let new = try target.attributes(
      of: VaultEntry(
        name: name, kind: copy.kind,
        mode: copy.kind == .longLink ? .longLink : .symbolicLink,
        backingName: copy.temporary, status: status,
        origin: EntryOrigin(directory: target.id, name: name)))
    for name in names { try new.set(name, try old.get(name)) }
  }

  /// Puts a prepared link into place.
  func install(
    _ copy: (temporary: [UInt8], kind: EntryKind), _ name: [UInt8], _ directory: Int32,
    replacing: VaultEntry?
  ) throws(VaultError) {
    do throws(VaultError) {
      let backing = try backingName(name, copy.kind, view.record)
      try naming("putting a link into place", backing, copy.kind, directory) { () throws(Errno) in
        if replacing == nil {
          try renameToNew(directory, copy.temporary, directory, backing.name)
        } else {
          try Sys.renameat2(directory, copy.temporary, directory, backing.name)
        }
      }
      if let replacing { try removeReplaced(replacing, unless: backing.name, directory) }
    } catch {
      try? Sys.unlinkat(directory, copy.temporary)
      throw error
    }
  }

  // MARK: Directories

  private func moveDirectory(
    _ source: VaultEntry, _ target: VaultDirectory, _ name: [UInt8], _ replaced: VaultEntry?,
    _ from: Int32, _ into: Int32
  ) throws(VaultError) {
    let child = try openDirectory(source)
    guard !target.isInside(child) else {
      throw .system(.invalidArgument, "a directory cannot be moved into itself")
    }
    let record = target.view.record
    let backing = try target.backingName(name, .primary, record)
    if let replaced {
      let opened = try attempt("replacing a directory") { () throws(Errno) in
        SharedFD(
          try Sys.openat(into, replaced.backingName, [.path, .directory, .noFollow]))
      }
      guard try target.isEmpty(opened.rawValue) else {
        throw .system(.directoryNotEmpty, "the directory is not empty")
      }
    }
    let before = context.keys.binding(of: source.origin.name, in: source.origin.directory)
    let after = context.keys.binding(of: name, in: record.id)
    let isOrdered = try child.updateRecord {
      $0.bindings = before == after ? [after] : [before, after]
    }
    let isSwapped: Bool
    do throws(VaultError) {
      if let sidecar = backing.sidecar { try target.write(sidecar, into) }
      isSwapped = try child.moveFolder(
        isNewParent: target !== self, replacing: replaced,
        { (flags) throws(Errno) in
          if flags == .noReplace {
            try renameToNew(from, source.backingName, into, backing.name)
          } else {
            try Sys.renameat2(from, source.backingName, into, backing.name, flags: flags)
          }
        }, discard: { (replaced) throws(VaultError) in try target.discard(replaced, into) })
    } catch {
      _ = try? child.updateRecord { $0.bindings = [before] }
      target.dropSidecar(backing.name, .primary, into)
      throw error
    }
    child.place(in: target, name: name, backingName: backing.name)
    if isSwapped, let replaced {
      let leftover = VaultEntry(
        name: source.name, kind: source.kind, mode: .directory,
        backingName: source.backingName, status: replaced.status, origin: source.origin)
      do throws(VaultError) {
        try discard(leftover, from)
      } catch {
        try? Sys.renameat2(from, source.backingName, into, backing.name, flags: .exchange)
        child.place(in: self, name: source.name, backingName: source.backingName)
        _ = try? child.updateRecord { $0.bindings = [before] }
        throw error
      }
    }
    dropSidecar(source.backingName, source.kind, from)
    // The rename must be on the medium before the record forgets the old place; a record that goes
    // on naming both is valid too.
    if !isOrdered, (try? target.sync()) == nil || (try? sync()) == nil { return }
    _ = try? child.updateRecord { $0.bindings = [after] }
  }

  /// Whether this directory is another one or inside it.
  private func isInside(_ other: VaultDirectory) -> Bool {
    var directory: VaultDirectory? = self
    while let current = directory {
      if current === other { return true }
      directory = current.parent
    }
    return false
  }

  /// Renames the backing folder, over that of an empty directory where there is one.
  ///
  /// - Returns: Whether the empty one is now where this one was.
  private func moveFolder(
    isNewParent: Bool, replacing replaced: VaultEntry?,
    _ rename: (RenameFlags) throws(Errno) -> Void,
    discard: (VaultEntry) throws(VaultError) -> Void
  ) throws(VaultError) -> Bool {
    if let replaced {
      do throws(VaultError) {
        // The directory itself is not empty to the backing filesystem: it has a record.
        try withMoveAccess(isNewParent: isNewParent) { () throws(Errno) in try rename(.exchange) }
        return true
      } catch .system(.invalidArgument, _) {
        // It cannot swap: the empty one goes first, and for a moment the name is free.
        try discard(replaced)
      }
    }
    try withMoveAccess(isNewParent: isNewParent) { () throws(Errno) in try rename(.noReplace) }
    return false
  }

  /// A directory that gets a new parent must be writable, for its `..`.
  private func withMoveAccess(
    isNewParent: Bool, _ call: () throws(Errno) -> Void
  ) throws(VaultError) {
    guard isNewParent else { return try attempt("renaming a directory", call) }
    let descriptor = try descriptor()
    try withAccess(to: descriptor.rawValue, bits: 0o200, call)
  }

  // MARK: Locks

  /// Runs a change of one or two directories' entries, without ever waiting in a circle.
  static func changing<R: Sendable>(
    _ first: VaultDirectory, _ second: VaultDirectory,
    _ body: (Int32, Int32) throws(VaultError) -> R
  ) throws(VaultError) -> R {
    if first === second {
      return try first.changing { (directory) throws(VaultError) in
        try body(directory, directory)
      }
    }
    if first.id.bytes.lexicographicallyPrecedes(second.id.bytes) {
      return try first.changing { (from) throws(VaultError) in
        try second.changing { (into) throws(VaultError) in try body(from, into) }
      }
    }
    return try second.changing { (into) throws(VaultError) in
      try first.changing { (from) throws(VaultError) in try body(from, into) }
    }
  }
}
