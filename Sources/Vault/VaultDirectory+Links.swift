import Container
import Primitives
import Synchronization
import SystemPackage

extension VaultDirectory {
  // MARK: Symbolic links

  /// Makes a symbolic link (format §7).
  ///
  /// - Parameters:
  ///   - name: The plain name; it must not exist.
  ///   - target: 1 to 4095 bytes without NUL.
  ///   - owner: Who it belongs to; counts only when this process is root.
  /// - Returns: The new entry.
  /// - Throws: `.system`, `.readOnly`.
  public func makeSymbolicLink(
    _ name: [UInt8], target: [UInt8], owner: Owner?
  ) throws(VaultError) -> VaultEntry {
    try changing { (directory) throws(VaultError) in
      if try lookup(name) != nil { throw .system(.fileExists, "the name exists") }
      let (temporary, kind) = try prepareLink(name, target, directory)
      do throws(VaultError) {
        let backing = try backingName(name, kind, view.record)
        try naming("making a symbolic link", backing, kind, directory) { () throws(Errno) in
          try context.giveTo(owner, directory, temporary, mode: 0o777)
          try renameToNew(directory, temporary, directory, backing.name)
        }
      } catch {
        try? Sys.unlinkat(directory, temporary)
        throw error
      }
      return try require(name)
    }
  }

  /// Makes the stored form of a link under a temporary name.
  ///
  /// - Returns: That name, and the kind under which it has to be put into place.
  func prepareLink(
    _ name: [UInt8], _ target: [UInt8], _ directory: Int32
  ) throws(VaultError) -> (temporary: [UInt8], kind: EntryKind) {
    guard !target.isEmpty else { throw .system(.noSuchFileOrDirectory, "an empty link target") }
    guard target.count <= Format.maximumTarget else {
      throw .system(.fileNameTooLong, "a link target has at most 4095 bytes")
    }
    guard !target.contains(0) else { throw .system(.invalidArgument, "not a link target") }
    let record = view.record
    let temporary = VaultDirectory.temporaryName()
    let isPlain =
      record.content == .plain && !target.starts(with: Format.sealedTargetPrefix)
    let stored = isPlain ? target : try sealedTarget(target, name, record.id)
    if stored.count <= Format.maximumTarget {
      do throws(Errno) {
        try Sys.symlinkat(target: stored, directory, temporary)
        return (temporary, .primary)
      } catch .fileNameTooLong where !isPlain {
        // Longer than this filesystem takes: into a container.
      } catch {
        throw .system(error, "making a symbolic link")
      }
    }
    try announce(.longLinks)
    try storeLongTarget(target, name, record.id, directory, temporary)
    return (temporary, .longLink)
  }

  private func sealedTarget(
    _ target: [UInt8], _ name: [UInt8], _ id: DirectoryID
  ) throws(VaultError) -> [UInt8] {
    do throws(CryptoError) {
      let sealed = try context.keys.links.seal(
        Padding.pad(target), associatedData: [id.bytes, name])
      return Format.sealedTargetPrefix + Base64URL.encode(sealed)
    } catch {
      throw .system(.noMemory, "sealing a link's target")
    }
  }

  private func storeLongTarget(
    _ target: [UInt8], _ name: [UInt8], _ id: DirectoryID, _ directory: Int32,
    _ temporary: [UInt8]
  ) throws(VaultError) {
    let descriptor = try attempt("making a symbolic link") { () throws(Errno) in
      SharedFD(
        try Sys.openat(
          directory, temporary, [.readWrite, .create, .exclusive, .noFollow], mode: 0o777))
    }
    do throws(VaultError) {
      let status = try attempt("making a symbolic link") { () throws(Errno) in
        try Sys.fstatx(descriptor.rawValue, fields: .entry)
      }
      let container = try newContainer(
        descriptor, status, .sealed, [context.keys.binding(of: name, in: id)])
      try attempt { () throws(ContainerError) in
        try target.withUnsafeBytesTyped { (bytes) throws(ContainerError) in
          try container.file.write(at: 0, from: bytes)
        }
      }
      try container.commit()
    } catch {
      try? Sys.unlinkat(directory, temporary)
      throw error
    }
  }

  /// Reads a symbolic link's target.
  ///
  /// - Parameter entry: A link that `lookup` found.
  /// - Returns: 1 to 4095 bytes.
  /// - Throws: `.damaged` for a target that was made for another name, `.refused` for a plain one
  ///   where the policy allows none, `.system`, `.container`.
  public func readLink(_ entry: VaultEntry) throws(VaultError) -> [UInt8] {
    if let target = try storedTarget(entry) { return target }
    // Two names are perhaps just being exchanged, which is not one step for links.
    if let target = try changes.withLock({ (_) throws(VaultError) in
      try requireStill(entry)
      return try settledTarget(entry)
    }) {
      return target
    }
    logDamage(entry, "the link's target was made for another name or directory")
    throw VaultDirectory.foreignTarget
  }

  private static let foreignTarget = VaultError.damaged(
    "the link's target was made for another name or directory")

  /// The target as it is stored; nil if it was made for another name.
  private func storedTarget(_ entry: VaultEntry) throws(VaultError) -> [UInt8]? {
    switch entry.mode {
    case .longLink: return try readLongTarget(entry)
    case .symbolicLink: break
    case .plain, .container, .directory, .special:
      throw .system(.invalidArgument, "not a symbolic link")
    }
    // A descriptor of the link itself takes an empty name.
    let handle = if let node = entry.node { node } else { try descriptor() }
    defer { withExtendedLifetime(handle) {} }
    let name = entry.node == nil ? entry.backingName : []
    let stored = try attempt("reading a symbolic link") { () throws(Errno) in
      try Sys.readlinkat(handle.rawValue, name)
    }
    guard stored.starts(with: Format.sealedTargetPrefix) else {
      guard view.record.allowed.contains(.plainTargets) else {
        logDamage(entry, "a plain link target where the policy allows none")
        throw .refused("a plain link target where the policy allows none")
      }
      return stored
    }
    return openTarget(stored, entry)
  }

  /// Reads a target while nobody is exchanging names, and finishes what was interrupted.
  private func settledTarget(_ entry: VaultEntry) throws(VaultError) -> [UInt8]? {
    if let target = try storedTarget(entry) { return target }
    return try waitingTarget(entry)
  }

  /// The target of a link whose exchange was interrupted: the copy made for its name waits under a
  /// temporary one, and takes its place.
  private func waitingTarget(_ entry: VaultEntry) throws(VaultError) -> [UInt8]? {
    let listing = try openListing()
    let directory = listing.rawValue
    return try attempt("reading a symbolic link") { () throws(Errno) in
      for waiting in try Sys.entries(of: directory)
      where waiting.name.starts(with: Format.temporaryPrefix) && waiting.kind == .symbolicLink {
        guard let target = openTarget(try Sys.readlinkat(directory, waiting.name), entry) else {
          continue
        }
        if context.isWritable {
          try Sys.renameat2(directory, waiting.name, directory, entry.backingName)
        }
        return target
      }
      return nil
    }
  }

  /// nil for a target that was not sealed for the entry's name.
  private func openTarget(_ stored: [UInt8], _ entry: VaultEntry) -> [UInt8]? {
    let view = view
    guard stored.starts(with: Format.sealedTargetPrefix),
      let sealed = Base64URL.decode(Array(stored[Format.sealedTargetPrefix.count...]))
    else {
      return nil
    }
    var ids = [entry.origin.directory]
    if view.record.names == .plain { ids += view.alternates.map(\.id) }
    for id in ids {
      guard
        let padded = try? context.keys.links.open(
          sealed, associatedData: [id.bytes, entry.origin.name]),
        let target = Padding.unpad(padded), target.count <= Format.maximumTarget
      else { continue }
      return target
    }
    return nil
  }

  /// Whether a symbolic link may have another name as it is: its target is not sealed, and would not be there.
  func keepsTarget(
    _ entry: VaultEntry, in target: VaultDirectory, _ directory: Int32
  ) throws(VaultError) -> Bool {
    guard entry.mode == .symbolicLink, view.record.content == .plain,
      target.view.record.content == .plain
    else { return false }
    let stored = try attempt("reading a symbolic link") { () throws(Errno) in
      try Sys.readlinkat(directory, entry.backingName)
    }
    return !stored.starts(with: Format.sealedTargetPrefix)
  }

  /// Reads a target while this directory is being changed.
  func targetForCopy(_ entry: VaultEntry) throws(VaultError) -> [UInt8] {
    guard let target = try settledTarget(entry) else { throw VaultDirectory.foreignTarget }
    return target
  }

  private func readLongTarget(_ entry: VaultEntry) throws(VaultError) -> [UInt8] {
    let container = try openContainer(entry)
    let size = container.file.size
    guard size >= 1, size <= UInt64(Format.maximumTarget) else {
      throw .damaged("the link's target has an impossible length")
    }
    var target = [UInt8](repeating: 0, count: Int(size))
    let count = try attempt { () throws(ContainerError) in
      try target.withUnsafeMutableBytesTyped { (buffer) throws(ContainerError) in
        try container.file.read(at: 0, into: buffer)
      }
    }
    guard count == target.count, !target.contains(0) else {
      throw .damaged("the link's target is not one")
    }
    return target
  }

  // MARK: Hard links

  /// Gives a file another name. A symbolic link with a sealed target is copied: that belongs to its name.
  ///
  /// - Parameters:
  ///   - entry: What `lookup` found in this directory.
  ///   - target: The directory of the new name, perhaps this one.
  ///   - name: The new plain name; it must not exist.
  /// - Returns: The new entry.
  /// - Throws: `.crossPolicy` if the other directory would store the name in another mode, `.system`
  ///   (`.notPermitted` for a directory), `.damaged`, `.container`.
  public func link(
    _ entry: VaultEntry, to target: VaultDirectory, as name: [UInt8]
  ) throws(VaultError) -> VaultEntry {
    if entry.mode == .directory { throw .system(.notPermitted, "a hard link to a directory") }
    return try VaultDirectory.changing(self, target) { (from, into) throws(VaultError) in
      // The name is what is linked, so it must not have become another file's since the lookup.
      try requireStill(entry)
      if try target.lookup(name) != nil { throw .system(.fileExists, "the name exists") }
      switch entry.mode {
      case .symbolicLink, .longLink:
        if try keepsTarget(entry, in: target, from) { fallthrough }
        let copy = try copyLink(entry, to: target, as: name, from, into)
        try target.install(copy, name, into, replacing: nil)
      case .plain, .special, .container:
        try prepareMove(entry, to: target, as: name, isNewLink: true)
        let kind = EntryKind.of(entry.mode, names: target.namePolicy)
        let backing = try target.backingName(name, kind, target.view.record)
        try target.naming("making a hard link", backing, kind, into) { () throws(Errno) in
          try Sys.linkat(from, entry.backingName, into, backing.name)
        }
      case .directory: break
      }
      return try target.require(name)
    }
  }
}
