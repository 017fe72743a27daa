public import Container
import Primitives
import SystemPackage

/// A file that is about to take another one's place, stored in another mode.
public struct Replacement: Sendable {
  /// The entry it replaces.
  public let original: VaultEntry
  /// The new backing file, open for reading and writing.
  public let descriptor: SharedFD
  /// The content, unless the new file is plain.
  public let container: VaultContainer?
  /// How it is stored.
  public let policy: ContentPolicy

  /// nil where the backing filesystem has files without a name.
  fileprivate let temporaryName: [UInt8]?
}

extension VaultDirectory {
  /// Starts to store a file anew in another mode; its caller copies the content.
  ///
  /// - Parameters:
  ///   - entry: A plain file or container with one name, that `lookup` found.
  ///   - policy: The new mode.
  /// - Returns: What the content goes into.
  /// - Throws: `.system` (`.tooManyLinks` for a file with several names), `.readOnly`.
  public func beginReplacement(
    of entry: VaultEntry, policy: ContentPolicy
  ) throws(VaultError) -> Replacement {
    guard entry.mode == .plain || entry.mode == .container else {
      throw .system(.invalidArgument, "only files are converted")
    }
    guard entry.status.links == 1 else {
      throw .system(.tooManyLinks, "it has \(entry.status.links) names, which share one mode")
    }
    return try changing { (directory) throws(VaultError) in
      let record = view.record
      guard entry.origin == EntryOrigin(directory: record.id, name: entry.name) else {
        throw .system(.invalidArgument, "a conflict copy; rename it first")
      }
      let (descriptor, temporary) = try attempt("converting a file") { () throws(Errno) in
        try openIncoming(directory)
      }
      let binding = context.keys.binding(of: entry.name, in: record.id)
      let container: VaultContainer?
      do throws(VaultError) {
        let status = try attempt("converting a file") { () throws(Errno) in
          try Sys.fstatx(descriptor.rawValue, fields: .entry)
        }
        container =
          policy == .plain ? nil : try newContainer(descriptor, status, policy, [binding])
      } catch {
        if let temporary { try? Sys.unlinkat(directory, temporary) }
        throw error
      }
      return Replacement(
        original: entry, descriptor: descriptor, container: container, policy: policy,
        temporaryName: temporary)
    }
  }

  /// Gives a replacement the original's owner, mode, attributes and times, and brings it to the
  /// medium.
  ///
  /// - Parameter replacement: Holds the whole content.
  /// - Throws: `.system`, `.damaged`, `.container`.
  public func prepareReplacement(_ replacement: Replacement) throws(VaultError) {
    let entry = replacement.original
    let file = replacement.descriptor.rawValue
    try attempt("keeping the owner") { () throws(Errno) in
      let made = try Sys.fstatx(file, fields: .basic)
      guard made.uid != entry.status.uid || made.gid != entry.status.gid else { return }
      // Takes capabilities and set-ID bits, which follow.
      try Sys.fchownat(file, uid: entry.status.uid, gid: entry.status.gid)
    }
    try copyAttributes(entry, to: replacement)
    try attempt("keeping the mode") { () throws(Errno) in
      try Sys.fchmod(file, mode: entry.status.mode & 0o7777)
    }
    if let container = replacement.container {
      try container.sync(modificationTime: entry.status.mtime)
    }
    try attempt("syncing") { () throws(Errno) in
      try Sys.futimens(
        file, access: .set(entry.status.atime), modification: .set(entry.status.mtime))
      try Sys.fsync(file)
    }
  }

  /// What the medium has of a replacement, read by an object that has not seen it being written.
  ///
  /// - Parameter replacement: Prepared.
  /// - Returns: The content; nil for a plain file.
  /// - Throws: `.container`.
  public func storedContent(_ replacement: Replacement) throws(VaultError) -> ContainerFile? {
    guard let container = replacement.container else { return nil }
    return try attempt { () throws(ContainerError) in
      try ContainerFile.open(
        store: FileBlockStore(container.descriptor), keys: context.keys.content,
        parameters: ContainerParameters(
          policy: replacement.policy, session: context.session.number, bindings: []),
        excuse: TornExcuse(isExcused: false), known: container.file.known,
        workspace: context.workspace)
    }
  }

  /// Puts a replacement into place: where its backing name is that of the original in one step,
  /// else so that a crash leaves both, of which the one that comes first in format §6 counts.
  ///
  /// - Parameter replacement: Prepared.
  /// - Returns: The entry as a lookup now gives it.
  /// - Throws: `.system` (`.staleNFSFileHandle` if the name is another file by now, or has changed),
  ///   `.container`.
  public func finishReplacement(_ replacement: Replacement) throws(VaultError) -> VaultEntry {
    let entry = replacement.original
    return try changing { (directory) throws(VaultError) in
      let now = try require(entry.name)
      guard now.identity == entry.identity, now.status.links == 1,
        now.status.size == entry.status.size, now.status.mtime == entry.status.mtime,
        now.status.ctime == entry.status.ctime
      else { throw .system(.staleNFSFileHandle, "the file changed while it was converted") }
      let isPlain = replacement.container == nil
      try announce(isPlain ? .plainFiles : .containers)
      let kind = EntryKind.of(isPlain ? .plain : .container, names: view.record.names)
      let backing = try backingName(entry.name, kind, view.record)
      let times = try? Sys.fstatx(directory, fields: .basic)
      if let sidecar = backing.sidecar { try write(sidecar, directory) }
      try name(replacement, backing.name, directory)
      if now.backingName != backing.name {
        // The medium must have the new name before the old one goes.
        try sync()
        try unlink(now, directory)
      }
      if let times {
        // What the directory holds is what it held before.
        try? Sys.futimens(
          directory, access: .set(times.atime), modification: .set(times.mtime))
      }
      return try require(entry.name)
    }
  }

  private func name(
    _ replacement: Replacement, _ backingName: [UInt8], _ directory: Int32
  ) throws(VaultError) {
    let temporary = replacement.temporaryName ?? VaultDirectory.temporaryName()
    try attempt("putting the converted file into place") { () throws(Errno) in
      if replacement.temporaryName == nil {
        // An unnamed file can be linked, but not over another one.
        try Sys.link(replacement.descriptor.rawValue, to: directory, temporary)
      }
      do throws(Errno) {
        try Sys.renameat2(directory, temporary, directory, backingName)
      } catch {
        try? Sys.unlinkat(directory, temporary)
        throw error
      }
    }
  }

  /// Gives a replacement up.
  ///
  /// - Parameter replacement: What `beginReplacement` gave.
  public func cancelReplacement(_ replacement: Replacement) {
    guard let temporary = replacement.temporaryName else { return }
    try? changing { (directory) throws(VaultError) in
      try? Sys.unlinkat(directory, temporary)
    }
  }

  /// Removes the former version of a file that a conversion cut short has left beside the new one,
  /// where the new one counts. It has the same modification time, unlike what else may be there.
  ///
  /// - Parameter name: The file's plain name.
  /// - Throws: `.system`, `.readOnly`.
  public func removeFormerVersion(_ name: [UInt8]) throws(VaultError) {
    try changing { (directory) throws(VaultError) in
      let entry = try require(name)
      let record = view.record
      for kind in [EntryKind.container, .plain] where kind != entry.kind {
        guard record.terms.kinds.contains(kind), kind.suffix(record.names) != nil else { continue }
        let other = try backingName(name, kind, record).name
        guard let found = try status(directory, other), found.kind == .regular,
          found.mtime == entry.status.mtime, InodeIdentity(found) != entry.identity
        else { continue }
        try attempt("removing a file's former version") { () throws(Errno) in
          try Sys.unlinkat(directory, other)
        }
      }
    }
  }

  /// Stores a link's target as this directory's policy has it for new ones.
  ///
  /// - Parameter entry: A symbolic link that `lookup` found here.
  /// - Returns: Whether it was stored otherwise.
  /// - Throws: `.system`, `.damaged`, `.container`, `.readOnly`.
  public func remakeLink(_ entry: VaultEntry) throws(VaultError) -> Bool {
    try changing { (directory) throws(VaultError) in
      try requireStill(entry)
      guard entry.mode == .symbolicLink, view.record.content != .plain else { return false }
      let stored = try attempt("reading a symbolic link") { () throws(Errno) in
        try Sys.readlinkat(directory, entry.backingName)
      }
      if stored.starts(with: Format.sealedTargetPrefix) { return false }
      let copy = try copyLink(entry, to: self, as: entry.name, directory, directory)
      try install(copy, entry.name, directory, replacing: entry)
      return true
    }
  }

  private func copyAttributes(
    _ entry: VaultEntry, to replacement: Replacement
  ) throws(VaultError) {
    let old = try attributes(of: entry)
    let new =
      replacement.container?.attributes
      ?? Attributes(context: context, descriptor: replacement.descriptor, scheme: .plain)
    // What a default list of the directory has just given it is not the original's.
    try? new.remove(VaultDirectory.accessList)
    for name in try old.list() { try new.set(name, try old.get(name)) }
  }

  private static let accessList = Format.bytes("system.posix_acl_access")
}
