public import Container
public import Primitives
import Synchronization
import SystemPackage

/// A file that was just created.
public struct CreatedFile: Sendable {
  /// The entry, as a lookup would give it.
  public let entry: VaultEntry
  /// The backing file, open for reading and writing.
  public let descriptor: SharedFD
  /// The content, unless the file is plain. Nothing of it is stored before its first commit.
  public let container: VaultContainer?
}

extension VaultDirectory {
  /// Creates a file; it must not exist.
  ///
  /// - Parameters:
  ///   - name: The plain name.
  ///   - mode: Permission bits, from which the caller's umask is already taken.
  ///   - owner: Who it belongs to; counts only when this process is root.
  ///   - policy: How it is stored; nil for what rules and policy say.
  /// - Returns: The entry and its open file.
  /// - Throws: `.system` (`.fileExists` among others), `.readOnly`.
  public func createFile(
    _ name: [UInt8], mode: UInt32, owner: Owner?, policy: ContentPolicy? = nil
  ) throws(VaultError) -> CreatedFile {
    try changing { (directory) throws(VaultError) in
      try validate(name)
      let record = try viewWithAlternates().record
      let policy = policy ?? record.policy(for: name)
      let inodeMode: InodeMode = policy == .plain ? .plain : .container
      let kind = EntryKind.of(inodeMode, names: record.names)
      try requireFree(name, for: kind)
      try announce(policy == .plain ? .plainFiles : .containers)
      let backing = try backingName(name, kind, record)
      return try context.containers.creating { () throws(VaultError) in
        let descriptor = try naming("creating a file", backing, kind, directory) {
          () throws(Errno) in
          SharedFD(
            try Sys.openat(
              directory, backing.name, [.readWrite, .create, .exclusive, .noFollow],
              mode: mode & 0o7777))
        }
        let status: FileStatus
        do throws(VaultError) {
          status = try finish(descriptor, owner, mode, directory)
        } catch {
          try? Sys.unlinkat(directory, backing.name)
          dropSidecar(backing.name, kind, directory)
          throw error
        }
        let entry = VaultEntry(
          name: name, kind: kind, mode: inodeMode, backingName: backing.name, status: status,
          origin: EntryOrigin(directory: record.id, name: name))
        guard policy != .plain else {
          return CreatedFile(entry: entry, descriptor: descriptor, container: nil)
        }
        let binding = context.keys.binding(of: name, in: record.id)
        let container = try newContainer(descriptor, status, policy, [binding])
        return CreatedFile(entry: entry, descriptor: descriptor, container: container)
      }
    }
  }

  /// Gives a new file its owner and reads its status.
  func finish(
    _ descriptor: SharedFD, _ owner: Owner?, _ mode: UInt32, _ directory: Int32
  ) throws(VaultError) -> FileStatus {
    try attempt("creating a file") { () throws(Errno) in
      try context.giveTo(owner, descriptor.rawValue, mode: mode, in: directory)
      return try Sys.fstatx(descriptor.rawValue, fields: .entry)
    }
  }

  func newContainer(
    _ descriptor: SharedFD, _ status: FileStatus, _ policy: ContentPolicy, _ bindings: [Binding]
  ) throws(VaultError) -> VaultContainer {
    let file = try attempt { () throws(ContainerError) in
      try ContainerFile.create(
        store: FileBlockStore(descriptor), keys: context.keys.content,
        parameters: ContainerParameters(
          policy: policy, session: context.session.number, bindings: bindings),
        workspace: context.workspace)
    }
    return context.containers.insert(
      VaultContainer(file, descriptor, status, context, hint: .absent))
  }

  /// Makes a FIFO, socket or device, or an empty regular file.
  ///
  /// - Parameters:
  ///   - name: The plain name.
  ///   - mode: File type and permission bits, from which the caller's umask is already taken.
  ///   - device: What a device file stands for.
  ///   - owner: Who it belongs to; counts only when this process is root.
  /// - Returns: The new entry.
  /// - Throws: `.system`, `.readOnly`.
  public func makeNode(
    _ name: [UInt8], mode: UInt32, device: UInt64, owner: Owner?
  ) throws(VaultError) -> VaultEntry {
    switch FileKind(mode: mode) {
    case .regular, .unknown:
      let file = try createFile(name, mode: mode & 0o7777, owner: owner)
      try file.container?.commit()
      return try require(name)
    case .directory, .symbolicLink:
      throw .system(.invalidArgument, "mknod makes neither directories nor links")
    case .fifo, .socket, .characterDevice, .blockDevice: break
    }
    return try changing { (directory) throws(VaultError) in
      let kind = EntryKind.of(.special, names: try viewWithAlternates().record.names)
      try requireFree(name, for: kind)
      try announce(.specialFiles)
      let record = view.record
      let backing = try backingName(name, kind, record)
      try naming("making a special file", backing, kind, directory) { () throws(Errno) in
        try Sys.mknodat(directory, backing.name, mode: mode, device: device)
        do throws(Errno) {
          try context.giveTo(owner, directory, backing.name, mode: mode)
        } catch {
          try? Sys.unlinkat(directory, backing.name)
          throw error
        }
      }
      return try require(name)
    }
  }

  // MARK: Unnamed files

  /// Creates a file without a name, O_TMPFILE.
  ///
  /// - Parameters:
  ///   - mode: Permission bits, from which the caller's umask is already taken.
  ///   - owner: Who it belongs to; counts only when this process is root.
  /// - Returns: The backing file, its status, and the content unless the directory's policy is
  ///   plain.
  /// - Throws: `.system` (`.notSupportedOnSocket`, EOPNOTSUPP, where the backing filesystem has no
  ///   such files), `.readOnly`.
  public func createTemporary(
    mode: UInt32, owner: Owner?
  ) throws(VaultError) -> TemporaryFile {
    try changing { (directory) throws(VaultError) in
      let policy = view.record.content
      let descriptor = try attempt("creating a temporary file") { () throws(Errno) in
        SharedFD(
          try Sys.openat(
            directory, [UInt8(ascii: ".")], [.readWrite, .temporaryFile], mode: mode & 0o7777))
      }
      let status = try finish(descriptor, owner, mode, directory)
      let container =
        policy == .plain ? nil : try newContainer(descriptor, status, policy, [])
      return TemporaryFile(
        descriptor: descriptor, status: status, container: container, policy: policy)
    }
  }

  /// Gives an unnamed file its name.
  ///
  /// - Parameters:
  ///   - file: What `createTemporary` made, in this directory or another one of the vault.
  ///   - name: The plain name; it must not exist.
  /// - Returns: The new entry.
  /// - Throws: `.crossPolicy` if this directory would store that name in another mode, `.system`.
  public func linkTemporary(
    _ file: TemporaryFile, as name: [UInt8]
  ) throws(VaultError) -> VaultEntry {
    try changing { (directory) throws(VaultError) in
      let record = try viewWithAlternates().record
      guard record.policy(for: name) == file.policy else { throw .crossPolicy }
      let kind = EntryKind.of(file.container == nil ? .plain : .container, names: record.names)
      try requireFree(name, for: kind)
      let backing = try backingName(name, kind, record)
      if let container = file.container {
        container.file.addBinding(context.keys.binding(of: name, in: record.id))
        try container.commit()
      }
      try naming("naming a temporary file", backing, kind, directory) { () throws(Errno) in
        try Sys.link(file.descriptor.rawValue, to: directory, backing.name)
      }
      return try require(name)
    }
  }

  // MARK: Preparation

  /// Runs a change of this directory's entries, one at a time.
  func changing<R: Sendable>(
    _ body: (Int32) throws(VaultError) -> R
  ) throws(VaultError) -> R {
    try context.requireWritable()
    return try changes.withLock { (_) throws(VaultError) in
      if isRemoved { throw .system(.noSuchFileOrDirectory, "the directory was removed") }
      let descriptor = try descriptor()
      defer { withExtendedLifetime(descriptor) {} }
      return try body(descriptor.rawValue)
    }
  }

  /// Checks that no entry of any kind has a name. Where only the kind to be made is possible the
  /// exclusive creation that follows finds out by itself.
  func requireFree(_ name: [UInt8], for kind: EntryKind) throws(VaultError) {
    try validate(name)
    let view = try viewWithAlternates()
    if view.terms.kinds == [kind], view.alternates.isEmpty, ConflictName(name) == nil { return }
    if try lookup(name) != nil { throw .system(.fileExists, "the name exists") }
  }
}

/// A file without a name.
public struct TemporaryFile: Sendable {
  /// The backing file, open for reading and writing.
  public let descriptor: SharedFD
  /// Its status.
  public let status: FileStatus
  /// The content, unless the file is plain.
  public let container: VaultContainer?
  /// How it is stored.
  public let policy: ContentPolicy
}
