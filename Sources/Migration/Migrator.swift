import Primitives
import Synchronization
import SystemPackage
import Vault

/// Takes trees of files into a vault, or into a mount of one.
///
/// A name exists in the vault only when what it names is whole and synced, so a run that is killed
/// can be started again with the same arguments: what is there with the same size and modification
/// time is not copied again.
public final class Migrator: Sendable, TransferRun {
  let destination: MigrationDestination
  let options: MigrationOptions
  let observer: MigrationObserver
  let removals = Mutex(Removals())
  let room = Room()
  let failures = Failures()
  private let queue = JobQueue<Item>(capacity: 64)
  let walk = Mutex(Walk())

  /// What only the walking thread uses.
  struct Walk {
    /// Directories that nothing will be added to, in the order in which they are finished: inner ones first.
    var folders: [Folder] = []
    /// Those with files with several names somewhere in them wait for the end, as these do.
    var foldersOfLinks: [Folder] = []
    /// Names of files with several that were met.
    var linkCount: UInt64 = 0
    /// The first name in the vault of files with several.
    var links: [InodeIdentity: (directory: any Receiver, name: [UInt8])] = [:]
  }

  /// A directory that gets its owner, mode, attributes and times when all is in it.
  struct Folder: Sendable {
    let source: MigrationSource
    let place: [[UInt8]]
    let path: [UInt8]
    let metadata: Metadata
    let directory: any Receiver
  }

  /// Prepares a migration; nothing is done yet.
  ///
  /// - Parameters:
  ///   - destination: Where everything goes.
  ///   - options: What to do.
  ///   - observer: Hears of it.
  public init(
    _ destination: MigrationDestination, _ options: MigrationOptions, observer: MigrationObserver
  ) {
    self.destination = destination
    self.options = options
    self.observer = observer
  }

  // MARK: The run

  /// Takes sources into a directory of the vault.
  ///
  /// - Parameters:
  ///   - sources: What to take in; two must not contain each other.
  ///   - target: The names of the directory, from the root; it is made if it does not exist.
  /// - Returns: How it ended.
  /// - Throws: `.vault`, `.outside` if it could not begin.
  public func run(
    _ sources: [MigrationSource], into target: [[UInt8]]
  ) throws(TransferError) -> MigrationEnd {
    var directory = destination.root
    var chain = [directory]
    for name in target {
      directory =
        try directory.find(name) != nil
        ? try directory.enter(name) : try directory.makeFolder(name, mode: 0o755)
      chain.append(directory)
    }
    let workers = try queue.startWorkers { [self] in process($0, $1) }
    // What a killed run left beside the target; the directories in it are cleared at the end.
    for place in chain { try? place.removeLeftovers() }
    for source in sources where !isStopping { begin(source, directory) }
    queue.close()
    for worker in workers { worker.join() }
    let buffer = TransferBuffer()
    // Files that a stopped run has copied may go: they are as safe as those of a whole run.
    removeSources(buffer, all: !isStopping)
    if !isStopping { finishFolders(all: true) }
    return end
  }

  // MARK: Walking

  private func begin(_ source: MigrationSource, _ directory: any Receiver) {
    if let name = source.name {
      take(source, source.base, name, place: [], path: [], directory)
    } else {
      enter(source, source.base, place: [], path: [], directory)
    }
  }

  /// Takes in what a directory holds, and notes it to be finished.
  private func enter(
    _ source: MigrationSource, _ folder: SharedFD, place: [[UInt8]], path: [UInt8],
    _ directory: any Receiver
  ) {
    do throws(TransferError) {
      let status = try attempting("opening a directory") { () throws(Errno) in
        try Sys.fstatx(folder.rawValue)
      }
      var losses: [String] = []
      var metadata = Metadata(outside: folder.rawValue, status, losses: &losses)
      reportLosses(path, losses)
      if options.moves { FolderState.keep(&metadata.status, in: try directory.itself()) }
      let links = walk.withLock { $0.linkCount }
      try attempting("reading a directory") { () throws(Errno) in
        try Sys.forEachEntry(of: folder.rawValue) {
          let name = [UInt8]($0.name)
          take(source, folder, name, place: place, path: joined(path, name), directory)
          return !isStopping
        }
      }
      let finished = Folder(
        source: source, place: place, path: path, metadata: metadata, directory: directory)
      directory.rest()
      leave(finished, hasLinks: links != walk.withLock { $0.linkCount })
    } catch {
      report(path, error)
    }
  }

  /// Notes a directory to be finished, which happens now and then so that few wait in memory.
  private func leave(_ folder: Folder, hasLinks: Bool) {
    let isEnough = walk.withLock { walk in
      if hasLinks { walk.foldersOfLinks.append(folder) } else { walk.folders.append(folder) }
      return walk.folders.count >= 256
    }
    guard isEnough else { return }
    queue.drain()
    removeSources(TransferBuffer(), all: false)
    if !isStopping { finishFolders(all: false) }
  }

  private func take(
    _ source: MigrationSource, _ folder: SharedFD, _ name: [UInt8], place: [[UInt8]],
    path: [UInt8], _ directory: any Receiver
  ) {
    if !path.isEmpty, options.action(path: path, name: name) == .exclude { return }
    do throws(TransferError) {
      let status = try attempting("looking at it") { () throws(Errno) in
        try Sys.statx(folder.rawValue, name)
      }
      let item = Item(
        source: source, folder: folder, name: name, place: place,
        path: path.isEmpty && status.kind != .directory ? name : path, status: status,
        directory: directory)
      if status.links > 1, status.kind != .directory { walk.withLock { $0.linkCount += 1 } }
      switch status.kind {
      case .directory: try takeFolder(item)
      case .regular where status.links > 1: takeLinked(item)
      case .regular: queue.add(item)
      case .unknown, .fifo, .characterDevice, .blockDevice, .symbolicLink, .socket:
        try takeNode(item)
      }
    } catch {
      report(path.isEmpty ? name : path, error)
    }
  }

  private func takeFolder(_ item: Item) throws(TransferError) {
    guard !destination.excluded.contains(item.status.identity) else {
      throw .occupied("the vault itself is left out")
    }
    let folder = try attempting("opening a directory") { () throws(Errno) in
      SharedFD(
        try Sys.openat(item.folder.rawValue, item.name, [.readOnly, .directory, .noFollow]))
    }
    let directory: any Receiver
    switch try item.directory.find(item.name)?.kind {
    case nil: directory = try item.directory.makeFolder(item.name, mode: 0o700)
    case .directory: directory = try item.directory.enter(item.name)
    default: throw .occupied("the vault has a file of this name")
    }
    enter(item.source, folder, place: item.place + [item.name], path: item.path, directory)
  }

  /// Links, FIFOs, sockets and devices: so small that the walking thread makes them itself.
  private func takeNode(_ item: Item) throws(TransferError) {
    let (directory, name) = (item.directory, item.name)
    let node = try attempting("opening it") { () throws(Errno) in
      SharedFD(try Sys.openat(item.folder.rawValue, name, [.path, .noFollow]))
    }
    var losses: [String] = []
    let metadata = Metadata(outside: node.rawValue, item.status, losses: &losses)
    let isLink = item.status.kind == .symbolicLink
    let target: [UInt8]? =
      isLink
      ? try attempting("reading a link") { () throws(Errno) in
        try Sys.readlinkat(item.folder.rawValue, name)
      } : nil
    let present = try directory.find(name)
    if let present {
      var isSame = present.kind == item.status.kind
      if isSame, let target { isSame = try directory.readLink(name) == target }
      guard isSame else { throw .occupied("the vault has something else of this name") }
      noteNode(item)
    } else if let target {
      try directory.makeLink(name, target: target)
    } else if try !linkNode(item) {
      try directory.makeNode(name, mode: item.status.mode, device: item.status.rdev)
    }
    losses += metadata.apply(to: try directory.node(name))
    reportLosses(item.path, losses)
    if options.moves { queueRemoval(item) }
    observer.report(.finished(path: item.path, present == nil ? .copied : .present, bytes: 0))
    removeEnough(TransferBuffer())
  }

  /// Gives a special file that is in the vault already another name.
  private func linkNode(_ item: Item) throws(TransferError) -> Bool {
    guard item.status.links > 1, item.status.kind != .symbolicLink else { return false }
    let identity = item.status.identity
    guard let known = walk.withLock({ $0.links[identity] }) else {
      noteNode(item)
      return false
    }
    return try item.directory.link(known.directory, known.name, as: item.name)
  }

  private func noteNode(_ item: Item) {
    guard item.status.links > 1 else { return }
    walk.withLock { $0.links[item.status.identity] = (item.directory, item.name) }
  }

  // MARK: Files with several names

  /// Done by the walking thread too, so that no two threads copy the same file.
  private func takeLinked(_ item: Item) {
    let identity = item.status.identity
    let buffer = TransferBuffer()
    let known = walk.withLock { $0.links[identity] }
    guard let known else {
      process(item, buffer)
      let isThere = (try? item.directory.find(item.name)) != nil
      if isThere { walk.withLock { $0.links[identity] = (item.directory, item.name) } }
      return
    }
    do throws(TransferError) {
      let present = try item.directory.find(item.name)
      guard let first = try known.directory.find(known.name) else { return process(item, buffer) }
      let isLinked: Bool
      if let present {
        isLinked = present.identity == first.identity
      } else {
        isLinked = try item.directory.link(known.directory, known.name, as: item.name)
      }
      guard isLinked else {
        observer.report(.problem(path: item.path, .notKept("it is no hard link any more")))
        return process(item, buffer)
      }
      if options.moves { removals.withLock { $0.atEnd.append(Removal(item)) } }
      observer.report(
        .finished(path: item.path, present == nil ? .linked : .present, bytes: item.status.size))
    } catch {
      report(item.path, error)
    }
  }

  // MARK: The end

  private func finishFolders(all: Bool) {
    let folders = walk.withLock { walk in
      defer { walk.folders = [] }
      return walk.folders + (all ? walk.foldersOfLinks : [])
    }
    for folder in folders {
      do throws(TransferError) {
        let losses = try finish(folder)
        reportLosses(folder.path, losses)
      } catch {
        report(folder.path, error)
      }
    }
  }

  private func finish(_ folder: Folder) throws(TransferError) -> [String] {
    let opened = try openFolder(folder.source.base, folder.place)
    if options.moves {
      // What was taken out of it changed its times; a run that is killed here reads them again.
      try? folder.metadata.setTimes(opened.rawValue)
    }
    // All workers are done, so what an earlier run left is all there can be.
    try folder.directory.removeLeftovers()
    let node = try folder.directory.itself()
    if options.moves { FolderState.forget(node) }
    let losses = folder.metadata.apply(to: node)
    // A mount whose daemon has died has not taken what it was told: the source keeps it for the next run.
    if options.moves, !folder.directory.syncsEverything { try folder.directory.sync() }
    folder.directory.rest()
    if options.moves, let name = folder.place.last {
      let parent = try openFolder(folder.source.base, Array(folder.place.dropLast()))
      // What was excluded or could not be moved keeps its directory.
      try? Sys.unlinkat(parent.rawValue, name, isDirectory: true)
    }
    return losses
  }
}
