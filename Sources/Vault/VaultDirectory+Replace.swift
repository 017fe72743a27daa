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

  fileprivate let temporaryName: [UInt8]
}

extension VaultDirectory {
  /// Starts to store a file anew in another mode; its caller copies the content.
  ///
  /// - Parameters:
  ///   - entry: A plain file or container with one link, that `lookup` found.
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
      throw .system(.tooManyLinks, "a file with several names")
    }
    return try changing { (directory) throws(VaultError) in
      let temporary = VaultDirectory.temporaryName()
      let descriptor = try attempt("converting a file") { () throws(Errno) in
        SharedFD(
          try Sys.openat(
            directory, temporary, [.readWrite, .create, .exclusive, .noFollow], mode: 0o600))
      }
      let status = try attempt("converting a file") { () throws(Errno) in
        try Sys.fstatx(descriptor.rawValue, fields: .entry)
      }
      let binding = context.keys.binding(of: entry.name, in: view.record.id)
      let container =
        policy == .plain ? nil : try newContainer(descriptor, status, policy, [binding])
      return Replacement(
        original: entry, descriptor: descriptor, container: container, policy: policy,
        temporaryName: temporary)
    }
  }

  /// Puts a replacement into place: with the original's owner, mode, attributes and times, synced,
  /// then in one step (a crash between the two names of different kinds leaves both, and the one
  /// that comes first in format §6 counts).
  ///
  /// - Parameter replacement: Holds the whole content.
  /// - Returns: The entry as a lookup now gives it.
  /// - Throws: `.system` (`.staleNFSFileHandle` if the name is another file by now, or has changed),
  ///   `.container`.
  public func finishReplacement(_ replacement: Replacement) throws(VaultError) -> VaultEntry {
    let entry = replacement.original
    return try changing { (directory) throws(VaultError) in
      let now = try require(entry.name)
      guard now.identity == entry.identity, now.status.mtime == entry.status.mtime,
        now.status.size == entry.status.size
      else { throw .system(.staleNFSFileHandle, "the file changed while it was converted") }
      try copyAttributes(now, to: replacement)
      try attempt("converting a file") { () throws(Errno) in
        let file = replacement.descriptor.rawValue
        if context.userID == 0 {
          try Sys.fchownat(file, uid: now.status.uid, gid: now.status.gid)
        }
        try Sys.fchmod(file, mode: now.status.mode & 0o7777)
      }
      if let container = replacement.container {
        try container.sync(modificationTime: now.status.mtime)
      }
      try attempt("converting a file") { () throws(Errno) in
        let file = replacement.descriptor.rawValue
        try Sys.futimens(
          file, access: .set(now.status.atime), modification: .set(now.status.mtime))
        try Sys.fsync(file)
      }
      let mode: InodeMode = replacement.policy == .plain ? .plain : .container
      try announce(mode == .plain ? .plainFiles : .containers)
      let kind = EntryKind.of(mode, names: view.record.names)
      try install((replacement.temporaryName, kind), entry.name, directory, replacing: now)
      return try require(entry.name)
    }
  }

  /// Gives a replacement up.
  ///
  /// - Parameter replacement: What `beginReplacement` gave.
  public func cancelReplacement(_ replacement: Replacement) {
    try? changing { (directory) throws(VaultError) in
      try? Sys.unlinkat(directory, replacement.temporaryName)
    }
  }

  private func copyAttributes(
    _ entry: VaultEntry, to replacement: Replacement
  ) throws(VaultError) {
    let old = try attributes(of: entry)
    let new =
      replacement.container?.attributes
      ?? Attributes(context: context, descriptor: replacement.descriptor, scheme: .plain)
    for name in try old.list() { try new.set(name, try old.get(name)) }
  }
}
