import Container
public import Primitives
import Synchronization
import SystemPackage
public import Vault

/// Takes files out of a vault: a name exists outside only when what it names is whole, so a run that
/// is killed can be started again. What is damaged is left out and reported.
public final class Exporter: Sendable, TransferRun {
  let base: SharedFD
  let observer: MigrationObserver
  let failures = Failures()
  private let queue = JobQueue<ExportItem>(capacity: 64)
  private let walk = Mutex(Walk())

  struct ExportItem: Sendable {
    let directory: VaultDirectory
    /// The directory in the part of the vault that what it holds is moved out of, if there is one.
    let elder: VaultDirectory?
    let entry: VaultEntry
    let folder: SharedFD
    /// Names from the destination to the folder.
    let place: [[UInt8]]
    let path: [UInt8]
  }

  private struct Folder {
    let place: [[UInt8]]
    let path: [UInt8]
    let metadata: Metadata
    /// Whether what it holds was on its way when the run that moved it was killed: it need not have attributes yet.
    let isMoving: Bool
  }

  private struct Walk {
    var folders: [Folder] = []
    var links: [InodeIdentity: (place: [[UInt8]], name: [UInt8])] = [:]
  }

  /// Prepares an export; nothing is done yet.
  ///
  /// - Parameters:
  ///   - destination: A directory, open for reading.
  ///   - observer: Hears of what is done.
  public init(to destination: SharedFD, observer: MigrationObserver) {
    base = destination
    self.observer = observer
  }

  /// Takes out what is in a directory, or one entry of it.
  ///
  /// - Parameters:
  ///   - directory: A directory of the vault.
  ///   - entry: What to take out of it; nil for everything and its own owner, mode and times.
  ///   - elder: The same directory of the part that all this is moved out of, which was exported
  ///     already: what is still there is whole there, and here perhaps not yet.
  /// - Returns: How it ended.
  /// - Throws: `.outside` if it could not begin.
  public func run(
    _ directory: VaultDirectory, _ entry: VaultEntry?, elder: VaultDirectory? = nil
  ) throws(TransferError) -> MigrationEnd {
    let workers = try queue.startWorkers { [self] in process($0, $1) }
    if let entry {
      take(
        ExportItem(
          directory: directory, elder: elder, entry: entry, folder: base, place: [],
          path: entry.name))
    } else {
      enter(directory, elder, base, place: [], path: [])
    }
    queue.close()
    for worker in workers { worker.join() }
    let folders = walk.withLock { $0.folders }
    for folder in folders where !isStopping {
      do throws(TransferError) {
        let opened = try openFolder(base, folder.place)
        if folder.isMoving {
          try? Sys.chmodPath(opened.rawValue, mode: folder.metadata.status.mode & 0o7777)
          try? folder.metadata.setTimes(opened.rawValue)
        } else {
          reportLosses(folder.path, folder.metadata.apply(to: opened.rawValue, .outside))
        }
      } catch {
        report(folder.path, error)
      }
    }
    return end
  }

  // MARK: Walking

  private func enter(
    _ directory: VaultDirectory, _ elder: VaultDirectory?, _ folder: SharedFD, place: [[UInt8]],
    path: [UInt8]
  ) {
    do throws(TransferError) {
      let descriptor = try inVault { () throws(VaultError) in try directory.descriptor() }
      let status = try attempting("looking at a directory") { () throws(Errno) in
        try Sys.fstatx(descriptor.rawValue)
      }
      var losses: [String] = []
      let attributes = try inVault { () throws(VaultError) in try directory.attributes() }
      var metadata = Metadata(attributes, status, losses: &losses)
      let noted = metadata.attributes.first { $0.name == FolderState.name }
      var isMoving = noted != nil
      if let noted {
        FolderState.restore(noted.value, to: &metadata.status)
      } else if elder != nil, let known = try? Sys.fstatx(folder.rawValue) {
        // Made, but nothing came yet; or all of it did, and the old one has its own times again.
        (metadata.status, isMoving) = (known, true)
      }
      reportLosses(path, losses)
      for item in try inVault({ () throws(VaultError) in try directory.list() }) {
        if isStopping { break }
        take(item.name, directory, elder, folder, place: place, path: joined(path, item.name))
      }
      let found = Folder(place: place, path: path, metadata: metadata, isMoving: isMoving)
      walk.withLock { $0.folders.append(found) }
    } catch {
      report(path, error)
    }
  }

  private func take(
    _ name: [UInt8], _ directory: VaultDirectory, _ elder: VaultDirectory?, _ folder: SharedFD,
    place: [[UInt8]], path: [UInt8]
  ) {
    do throws(TransferError) {
      let entry = try inVault { () throws(VaultError) in try directory.lookup(name) }
      guard let entry else { return }
      take(
        ExportItem(
          directory: directory, elder: elder, entry: entry, folder: folder, place: place, path: path
        ))
    } catch {
      report(path, error)
    }
  }

  private func take(_ item: ExportItem) {
    do throws(TransferError) {
      if item.entry.mode != .directory, isKnown(item) {
        noteLink(item)
        let size = item.entry.status.size
        return observer.report(.finished(path: item.path, .present, bytes: size))
      }
      switch item.entry.mode {
      case .directory: try takeFolder(item)
      case .plain, .container:
        if item.entry.status.links > 1 {
          takeLinked(item)
        } else {
          queue.add(item)
        }
      case .symbolicLink, .longLink, .special: try takeNode(item)
      }
    } catch {
      report(item.path, error)
    }
  }

  /// Whether the elder part has it too, and it was exported from there.
  private func isKnown(_ item: ExportItem) -> Bool {
    guard let elder = item.elder else { return false }
    return (try? Sys.statx(item.folder.rawValue, item.entry.name)) != nil
      && (try? elder.lookup(item.entry.name)) != nil
  }

  private func takeFolder(_ item: ExportItem) throws(TransferError) {
    let name = item.entry.name
    let directory = try inVault { () throws(VaultError) in
      try item.directory.openDirectory(item.entry)
    }
    let elder = item.elder.flatMap { elder in
      (try? elder.lookup(name)).flatMap { try? elder.openDirectory($0) }
    }
    do throws(Errno) {
      try Sys.mkdirat(item.folder.rawValue, name, mode: 0o700)
    } catch .fileExists {
      // Made by an earlier run, or there before; what is in it is looked at one by one.
    } catch {
      throw .outside(error, "making a directory")
    }
    enter(
      directory, elder, try openFolder(item.folder, [name]), place: item.place + [name],
      path: item.path)
  }

  private func takeNode(_ item: ExportItem) throws(TransferError) {
    let (entry, folder) = (item.entry, item.folder.rawValue)
    var target: [UInt8]?
    if entry.mode != .special {
      target = try inVault { () throws(VaultError) in try item.directory.readLink(entry) }
    }
    var status = try inVault { () throws(VaultError) in try item.directory.plainStatus(entry) }
    if entry.mode != .special {
      status.mode = UInt32(FileKind.symbolicLink.rawValue) << 12 | 0o777
    }
    let present = try? Sys.statx(folder, entry.name)
    if let present {
      let isSame =
        present.kind == status.kind
        && (target == nil || (try? Sys.readlinkat(folder, entry.name)) == target)
      guard isSame else { throw .occupied("something else of this name is there") }
      noteLink(item)
    } else if target != nil || !linkNode(item) {
      try attempting("making it") { () throws(Errno) in
        if let target {
          try Sys.symlinkat(target: target, folder, entry.name)
        } else {
          try Sys.mknodat(folder, entry.name, mode: status.mode, device: status.rdev)
        }
      }
    }
    var losses: [String] = []
    let attributes = try inVault { () throws(VaultError) in
      try item.directory.attributes(of: entry)
    }
    let metadata = Metadata(attributes, status, losses: &losses)
    let made = try attempting("opening it") { () throws(Errno) in
      try Sys.openat(folder, entry.name, [.path, .noFollow])
    }
    losses += metadata.apply(to: made.rawValue, .outside)
    reportLosses(item.path, losses)
    observer.report(.finished(path: item.path, present == nil ? .copied : .present, bytes: 0))
  }

  /// Gives a special file that is there already another name.
  private func linkNode(_ item: ExportItem) -> Bool {
    guard item.entry.status.links > 1 else { return false }
    let identity = item.entry.identity
    guard let first = walk.withLock({ $0.links[identity] }),
      let folder = try? openFolder(base, first.place)
    else {
      noteLink(item)
      return false
    }
    let name = item.entry.name
    return (try? Sys.linkat(folder.rawValue, first.name, item.folder.rawValue, name)) != nil
  }

  private func noteLink(_ item: ExportItem) {
    guard item.entry.status.links > 1 else { return }
    walk.withLock { $0.links[item.entry.identity] = (item.place, item.entry.name) }
  }

  /// Files with several names, by the walking thread: no two threads copy the same one.
  private func takeLinked(_ item: ExportItem) {
    let identity = item.entry.identity
    let name = item.entry.name
    let isThere = (try? Sys.statx(item.folder.rawValue, name)) != nil
    if !isThere, let first = walk.withLock({ $0.links[identity] }),
      let folder = try? openFolder(base, first.place),
      (try? Sys.linkat(folder.rawValue, first.name, item.folder.rawValue, name)) != nil
    {
      return observer.report(.finished(path: item.path, .linked, bytes: item.entry.status.size))
    }
    process(item, TransferBuffer())
    if (try? Sys.statx(item.folder.rawValue, name)) != nil {
      walk.withLock { $0.links[identity] = $0.links[identity] ?? (item.place, name) }
    }
  }

  // MARK: Files

  private func process(_ item: ExportItem, _ buffer: TransferBuffer) {
    do throws(TransferError) {
      let (outcome, size) = try transfer(item, buffer)
      observer.report(.finished(path: item.path, outcome, bytes: size))
    } catch {
      report(item.path, error)
    }
  }

  private func transfer(
    _ item: ExportItem, _ buffer: TransferBuffer
  ) throws(TransferError) -> (MigrationEvent.Outcome, UInt64) {
    let (directory, entry, folder) = (item.directory, item.entry, item.folder.rawValue)
    let status = try inVault { () throws(VaultError) in try directory.plainStatus(entry) }
    let present = try? Sys.statx(folder, entry.name)
    if let present {
      guard present.kind == .regular else {
        throw .occupied("something else of this name is there")
      }
      if present.mtime == status.mtime, present.size == status.size {
        return (.present, status.size)
      }
      guard present.mtime <= status.mtime else {
        throw .occupied("a newer file of this name is there")
      }
    }
    let content: Content
    let attributes: Attributes
    if entry.mode == .container {
      let container = try inVault { () throws(VaultError) in try directory.openContainer(entry) }
      (content, attributes) = (.container(container), container.attributes)
    } else {
      let file = try inVault { () throws(VaultError) in try directory.openPlain(entry, .readOnly) }
      content = .plain(file)
      attributes = try inVault { () throws(VaultError) in try directory.attributes(of: entry) }
    }
    let file = try OutgoingFile(folder)
    do throws(TransferError) {
      try buffer.copy(content, to: .plain(file.descriptor), size: status.size) {
        (bytes) throws(TransferError) in
        try observer.copied(item.path, bytes)
      }
      var losses: [String] = []
      let metadata = Metadata(attributes, status, losses: &losses)
      losses += metadata.apply(to: file.descriptor.rawValue, .outside)
      try file.finish(as: entry.name, replaces: present != nil)
      reportLosses(item.path, losses)
    } catch {
      file.cancel()
      throw error
    }
    return (.copied, status.size)
  }
}

/// A file outside the vault that gets its name when it is whole.
private struct OutgoingFile {
  let descriptor: SharedFD
  private let folder: Int32
  private let temporary: [UInt8]
  private let isNamed: Bool

  init(_ folder: Int32) throws(TransferError) {
    self.folder = folder
    temporary = Array(".scrim-export.".utf8) + Base64URL.encode(Random.bytes(12))
    do throws(Errno) {
      do throws(Errno) {
        descriptor = SharedFD(
          try Sys.openat(
            folder, [UInt8(ascii: ".")], [.readWrite, .temporaryFile], mode: 0o600))
        isNamed = false
      } catch .notSupportedOnSocket, .isDirectory {
        descriptor = SharedFD(
          try Sys.openat(
            folder, temporary, [.readWrite, .create, .exclusive, .noFollow], mode: 0o600))
        isNamed = true
      }
    } catch {
      throw .outside(error, "creating a file")
    }
  }

  func finish(as name: [UInt8], replaces: Bool) throws(TransferError) {
    try attempting("writing a file") { () throws(Errno) in
      try Sys.fsync(descriptor.rawValue)
      if !isNamed, !replaces { return try Sys.link(descriptor.rawValue, to: folder, name) }
      if !isNamed { try Sys.link(descriptor.rawValue, to: folder, temporary) }
      try Sys.renameat2(folder, temporary, folder, name)
    }
  }

  func cancel() {
    try? Sys.unlinkat(folder, temporary)
  }
}
