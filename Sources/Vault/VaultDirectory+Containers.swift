import Container
import Logging
public import Primitives
import SystemPackage

extension VaultDirectory {
  /// Opens a container: for reading and writing if the vault is open for that.
  ///
  /// - Parameter entry: A container or long link that `lookup` found.
  /// - Returns: The one object for that inode while anyone uses it.
  /// - Throws: `.damaged` if it belongs to another name or was rolled back, `.container`, `.system`
  ///   (`.staleNFSFileHandle` if the name now is another file).
  public func openContainer(_ entry: VaultEntry) throws(VaultError) -> VaultContainer {
    guard entry.mode == .container || entry.mode == .longLink else {
      throw .system(.invalidArgument, "not a container")
    }
    var isNew = false
    let container = try context.containers.find(entry.identity) { () throws(VaultError) in
      isNew = true
      return try openStored(entry)
    }
    if !isNew { try checkBinding(entry, container, isExcused: false) }
    return container
  }

  private func openStored(_ entry: VaultEntry) throws(VaultError) -> VaultContainer {
    let (descriptor, status) = try openBacking(
      entry, context.isWritable ? .readWrite : [.readOnly, .noAccessTime])
    let excuse = context.excuse(status.ctime)
    let policy = view.record.policy(for: entry.name)
    let parameters = ContainerParameters(
      policy: entry.mode == .longLink || policy == .plain ? .sealed : policy,
      session: context.session.number,
      bindings: [context.keys.binding(of: entry.origin.name, in: entry.origin.directory)])
    let known = context.commits.find(SeenCommits.Key(status))
    let file: ContainerFile
    do {
      file = try ContainerFile.open(
        store: FileBlockStore(descriptor), keys: context.keys.content, parameters: parameters,
        excuse: excuse, known: known,
        workspace: context.workspace)
    } catch {
      if status.size == 0 {
        if let created = context.containers.findCreated(entry.identity) { return created }
        // It may have been made, stored and closed since.
        let size = try attempt("opening a file") { () throws(Errno) in
          try Sys.fstatx(descriptor.rawValue, fields: .size).size
        }
        if size > 0 { return try openStored(entry) }
      }
      logDamage(entry, "\(error)")
      throw .container(error)
    }
    if file.healed {
      context.logger.notice(
        "a commit that a crash cut short was passed over",
        metadata: ["directory": "\(id)", "inode": "\(status.inode)"])
    }
    let isExcused = excuse.isExcused || file.healed
    let hint = isExcused ? .unknown : try checkRollback(entry, file, descriptor)
    let container = VaultContainer(file, descriptor, status, context, hint: hint)
    try checkBinding(entry, container, isExcused: isExcused)
    if context.isWritable { file.endExposure() }
    return container
  }

  /// Makes sure that what is behind an entry was stored under its name, where that is authenticated.
  ///
  /// - Parameter entry: Any entry.
  /// - Throws: `.damaged` if not; and as what opens it.
  public func prove(_ entry: VaultEntry) throws(VaultError) {
    switch entry.mode {
    case .container: _ = try openContainer(entry)
    case .directory: _ = try openDirectory(entry)
    case .symbolicLink, .longLink: _ = try readLink(entry)
    case .plain, .special: break
    }
  }

  /// Opens a plain file.
  ///
  /// - Parameters:
  ///   - entry: A plain file that `lookup` found.
  ///   - flags: As in open(2), without O_CREAT; O_NOFOLLOW is added.
  /// - Returns: The backing file.
  /// - Throws: `.system`.
  public func openPlain(
    _ entry: VaultEntry, _ flags: OpenFlags
  ) throws(VaultError) -> SharedFD {
    guard entry.mode == .plain else { throw .system(.invalidArgument, "not a plain file") }
    if !context.isWritable, flags.rawValue & 0o3 != 0 { throw .readOnly }
    return try openBacking(entry, flags.subtracting([.create, .exclusive])).descriptor
  }

  /// Opens what is behind any entry with O_PATH: for status, owner, mode, times and attributes.
  ///
  /// - Throws: `.system` (`.staleNFSFileHandle` if the name now is another inode).
  public func openNode(_ entry: VaultEntry) throws(VaultError) -> SharedFD {
    try openBacking(entry, .path).descriptor
  }

  private func openBacking(
    _ entry: VaultEntry, _ flags: OpenFlags
  ) throws(VaultError) -> (descriptor: SharedFD, status: FileStatus) {
    let opened: SharedFD
    if let node = entry.node {
      opened = try reopen(node, flags)
    } else {
      let handle = try descriptor()
      defer { withExtendedLifetime(handle) {} }
      opened = try openPermitted(entry, flags.union(.noFollow), handle.rawValue)
    }
    let status = try attempt("opening a file") { () throws(Errno) in
      try Sys.fstatx(opened.rawValue, fields: .entry)
    }
    guard InodeIdentity(status) == entry.identity else {
      throw .system(.staleNFSFileHandle, "another file took this one's place")
    }
    return (opened, status)
  }

  /// Containers are opened for writing whatever their mode says: reading may find a hint to
  /// repair, renaming a binding to add. The mount has checked what the caller may do.
  private func openPermitted(
    _ entry: VaultEntry, _ flags: OpenFlags, _ directory: Int32
  ) throws(VaultError) -> SharedFD {
    do {
      return SharedFD(try Sys.openat(directory, entry.backingName, flags))
    } catch .notPermitted where flags.contains(.noAccessTime) {
      return try openPermitted(entry, flags.subtracting(.noAccessTime), directory)
    } catch .permissionDenied where entry.mode != .plain && context.isWritable {
      let node = try attempt("opening a file") { () throws(Errno) in
        try Sys.openat(directory, entry.backingName, [.path, .noFollow])
      }
      return try withAccess(to: node.rawValue, bits: 0o600) { () throws(Errno) in
        SharedFD(try Sys.openat(directory, entry.backingName, flags))
      }
    } catch .noSuchFileOrDirectory {
      throw .system(.staleNFSFileHandle, "the file is gone")
    } catch {
      throw .system(error, "opening a file")
    }
  }

  private func checkBinding(
    _ entry: VaultEntry, _ container: VaultContainer, isExcused: Bool
  ) throws(VaultError) {
    let file = container.file
    if file.bindingsOverflow { return }
    let accepted = acceptedBindings(entry)
    // A rename away and back between looking at the bindings and at the name is not damage.
    for attempt in 0..<4 {
      if file.isBound(toAnyOf: accepted) { return }
      if isExcused { break }
      if attempt < 3 { try requireStill(entry) }
    }
    guard isExcused else {
      logDamage(entry, "the container belongs to another name or directory")
      throw .damaged("the container belongs to another name or directory")
    }
    if context.isWritable, let binding = accepted.first { file.addBinding(binding) }
  }

  /// Tells a name that was renamed since it was looked up from one that never was this inode's.
  func requireStill(_ entry: VaultEntry) throws(VaultError) {
    if entry.node != nil { return }
    let handle = try descriptor()
    defer { withExtendedLifetime(handle) {} }
    guard let now = try status(handle.rawValue, entry.backingName),
      InodeIdentity(now) == entry.identity
    else { throw .system(.staleNFSFileHandle, "the entry was renamed meanwhile") }
  }

  /// Refuses a container that is older than its hint.
  ///
  /// - Returns: The hint, if there is one.
  private func checkRollback(
    _ entry: VaultEntry, _ file: ContainerFile, _ descriptor: SharedFD
  ) throws(VaultError) -> VaultContainer.StoredHint {
    var bytes = [UInt8](repeating: 0, count: SizeHint.count)
    let read = try? bytes.withUnsafeMutableBytesTyped { (buffer) throws(Errno) in
      try Sys.fgetxattr(descriptor.rawValue, Format.hintAttribute, into: buffer)
    }
    guard read == SizeHint.count,
      let hint = SizeHint(opening: bytes, with: context.keys, inode: entry.identity.inode)
    else { return .unknown }
    if hint.commit <= file.commitNumber { return .present(hint) }
    logDamage(entry, "the container is older than its size hint")
    throw .damaged("the container was replaced by an older state of itself")
  }

  func logDamage(_ entry: VaultEntry, _ reason: String) {
    context.logger.warning(
      "entry damaged: \(reason)",
      metadata: ["directory": "\(id)", "inode": "\(entry.identity.inode)"])
  }

  // MARK: Status

  /// The status an entry has in the mount: containers with their logical size, links with the
  /// length of their target.
  ///
  /// - Parameter entry: Any entry.
  /// - Returns: The backing status, with size and type put right.
  /// - Throws: As `openContainer` and `readLink`, where size or target must be read.
  public func plainStatus(_ entry: VaultEntry) throws(VaultError) -> FileStatus {
    var status = entry.status
    if let node = entry.node {
      status = try attempt("reading a file's status") { () throws(Errno) in
        try Sys.fstatx(node.rawValue, fields: .entry)
      }
    }
    switch entry.mode {
    case .plain, .directory, .special: break
    case .container: status.size = try plainSize(entry)
    case .symbolicLink:
      status.size = UInt64(try readLink(entry).count)
    case .longLink:
      status.size = try plainSize(entry)
      status.mode = UInt32(FileKind.symbolicLink.rawValue) << 12 | 0o777
    }
    return status
  }

  /// The logical size of an entry in bytes: from the open container, else the hint, else the
  /// header.
  ///
  /// - Parameter entry: Any entry.
  /// - Returns: The size.
  /// - Throws: As `openContainer` and `readLink`.
  public func plainSize(_ entry: VaultEntry) throws(VaultError) -> UInt64 {
    switch entry.mode {
    case .plain, .directory, .special: return entry.status.size
    case .symbolicLink: return UInt64(try readLink(entry).count)
    case .container, .longLink: break
    }
    if let open = context.containers.find(entry.identity) { return open.file.size }
    if !context.isExcused(entry.status.ctime), let hint = try hint(entry),
      hint.backingLength == entry.status.size
    {
      return hint.size
    }
    return try openContainer(entry).file.size
  }

  private func hint(_ entry: VaultEntry) throws(VaultError) -> SizeHint? {
    if entry.node != nil { return nil }
    let handle = try descriptor()
    defer { withExtendedLifetime(handle) {} }
    let directory = handle.rawValue
    var bytes = [UInt8](repeating: 0, count: SizeHint.count)
    let read = try? bytes.withUnsafeMutableBytesTyped { (buffer) throws(Errno) in
      try Sys.getxattrAt(directory, entry.backingName, Format.hintAttribute, into: buffer)
    }
    guard read == SizeHint.count else { return nil }
    return SizeHint(opening: bytes, with: context.keys, inode: entry.identity.inode)
  }
}
