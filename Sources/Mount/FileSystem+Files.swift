import Container
import Glibc
import Logging
import Primitives
import Synchronization
import SystemPackage
import Vault

/// Opening, committing and closing what is behind an inode.
extension FileSystem {
  /// The open file of an inode, opened if need be, and one user more of it.
  ///
  /// With `writable` it must be possible to write; otherwise it is where the backing file's permissions
  /// allow, so that a later open for writing finds it ready.
  func acquire(_ inode: Inode, writable: Bool) throws -> OpenFile {
    let file = inode.state.withLock { state in
      let file = state.file ?? OpenFile()
      state.file = file
      file.users += 1
      return file
    }
    if file.lock.withReadLock({ file.isReady(writable: writable) }) { return file }
    do {
      try file.lock.withWriteLock {
        if file.isReady(writable: writable) { return }
        try open(inode, into: file, writable: writable)
      }
    } catch {
      drop(inode, file)
      throw error
    }
    return file
  }

  /// Runs `body` with the open file of an inode and commits what it changed.
  func withFile<R>(_ inode: Inode, writable: Bool, _ body: (OpenFile) throws -> R) throws -> R {
    let file = try acquire(inode, writable: writable)
    let result: R
    do {
      result = try body(file)
      // Only this operation uses the file: nobody else will flush it.
      if inode.state.withLock({ _ in file.users == 1 }) { try commit(inode, file) }
    } catch {
      release(inode, file)
      throw error
    }
    release(inode, file)
    return result
  }

  /// Makes a created file the open file of its new inode, with one user.
  func adopt(_ inode: Inode, _ backing: OpenFile.Backing) -> OpenFile {
    let file = OpenFile(backing, isWritable: true)
    file.users = 1
    if case .container = backing { file.isUnsynced.store(true, ordering: .relaxed) }
    inode.state.withLock { $0.file = file }
    return file
  }

  /// Counts one user less. The last one commits and closes; what is not on the disk yet stays open for
  /// a while, so that the maintenance thread can sync it.
  func release(_ inode: Inode, _ file: OpenFile) {
    var committed = true
    do { try commit(inode, file) } catch {
      committed = false
      report(error, inode)
      log.error("\(path(inode)): changes could not be stored yet: \(ErrnoMap.reason(error))")
    }
    let isPending = !committed || file.isUnsynced.load(ordering: .relaxed)
    guard isPending, !isOrphan(inode, file) else { return drop(inode, file) }
    // Before it lingers, so that the maintenance thread never finds a user that is about to go.
    inode.state.withLock { _ in file.users -= 1 }
    let isExposed = file.sharedContainer()?.isExposed ?? false
    if !maintenance.linger(inode, table, mustRetry: !committed, isExposed: isExposed) {
      closeIfUnused(inode)
    }
  }

  /// Counts one user less; without users the file is closed.
  func drop(_ inode: Inode, _ file: OpenFile) {
    inode.state.withLock { _ in file.users -= 1 }
    closeIfUnused(inode)
  }

  /// Whether the last name of an open file is gone, so that nobody will ever read it again.
  func isOrphan(_ inode: Inode, _ file: OpenFile) -> Bool {
    guard inode.link == nil, let descriptor = file.sharedDescriptor() else { return false }
    return (try? Sys.fstatx(descriptor.rawValue))?.links == 0
  }

  /// Closes a file that has no users and needs none. One without a name stays open until the kernel forgets
  /// it: an open that found the name in time must succeed, and nothing else leads to the file.
  func closeIfUnused(_ inode: Inode) {
    let closed = inode.state.withLock { state -> OpenFile? in
      guard let file = state.file, file.users == 0, state.link != nil else { return nil }
      state.file = nil
      return file
    }
    withExtendedLifetime(closed) {}
  }

  /// Opens the backing file. Called with the file's lock held for writing.
  private func open(_ inode: Inode, into file: OpenFile, writable: Bool) throws {
    if writable { try requireWritable() }
    let place = try locate(inode)
    if !isReadOnly {
      do {
        try open(place, inode, into: file, writable: true)
        return
      } catch {
        // Without permission to write the file can still be read.
        guard !writable, [EACCES, EPERM, EROFS, ETXTBSY].contains(ErrnoMap.errno(error)) else {
          throw error
        }
      }
    }
    try open(place, inode, into: file, writable: false)
  }

  private func open(_ place: Location, _ inode: Inode, into file: OpenFile, writable: Bool) throws {
    switch inode.mode {
    case .plain:
      let descriptor = try place.directory.openPlain(
        place.entry, writable ? .readWrite : .readOnly)
      file.install(.plain(descriptor), isWritable: writable)
    case .container:
      // The vault opens its containers for writing whenever it may write at all.
      let stored = try place.directory.openContainer(place.entry)
      file.install(.container(stored), isWritable: !isReadOnly)
    case .directory: throw MountFailure.isADirectory
    case .symbolicLink, .longLink, .special: throw MountFailure.invalid
    }
  }

  /// Makes what was written to a container survive the end of this process.
  ///
  /// The backing file then has the plain modification time, and the size hint is up to date. On a
  /// failure the last committed state stays and the changes stay in memory; it may be tried again.
  func commit(_ inode: Inode, _ file: OpenFile) throws {
    guard !isReadOnly, let stored = file.sharedStored() else {
      file.dirtySince.store(0, ordering: .relaxed)
      return
    }
    try file.commitLock.withLock { _ in
      let dirtySince = file.dirtySince.exchange(0, ordering: .relaxed)
      let before = file.times.withLock { $0 }
      do {
        if stored.isDirty {
          let time =
            before.isLikeNow ? nil : try modificationTime(before, file, stored.descriptor)
          if try stored.commit(modificationTime: time) {
            file.isUnsynced.store(!stored.file.isDurable, ordering: .relaxed)
          } else {
            try setModification(before, stored.descriptor)
          }
        } else {
          try setModification(before, stored.descriptor)
        }
        try forgetTimes(before, file, stored.descriptor)
      } catch {
        file.dirtySince.store(max(dirtySince, 1), ordering: .relaxed)
        maintenance.watch(inode, file)
        throw error
      }
    }
  }

  /// Sets a time where nothing was written that could have brought it along.
  private func setModification(_ times: OpenFile.Times, _ descriptor: SharedFD) throws {
    guard let time = times.modification else { return }
    try Sys.futimens(descriptor.rawValue, access: .omit, modification: .set(time))
  }

  /// The backing file's times are the plain ones from now on, unless they changed since `before`. One that was not
  /// set, as nobody knew it, is set if somebody was told of it meanwhile.
  private func forgetTimes(
    _ before: OpenFile.Times, _ file: OpenFile, _ descriptor: SharedFD
  ) throws {
    let told = file.times.withLock { times -> TimeSpec? in
      guard times.sequence == before.sequence else { return nil }
      if times.isFixed, !before.isFixed, before.modification != nil { return times.modification }
      times.modification = nil
      times.change = nil
      return nil
    }
    guard let told else { return }
    try Sys.futimens(descriptor.rawValue, access: .omit, modification: .set(told))
    file.times.withLock { times in
      guard times.sequence == before.sequence else { return }
      times.modification = nil
      times.change = nil
    }
  }

  /// Commits an open file before the vault commits it for a new name, which would not know of
  /// a modification time still to be set.
  func commitIfOpen(_ inode: Inode) throws {
    if let file = inode.file { try commit(inode, file) }
  }

  /// The plain modification time to put back after a commit. While it runs, the backing file's own is
  /// another, so the plain one is kept for whoever asks meanwhile.
  private func modificationTime(
    _ times: OpenFile.Times, _ file: OpenFile, _ descriptor: SharedFD
  ) throws -> TimeSpec {
    if let time = times.modification { return time }
    let time = try Sys.fstatx(descriptor.rawValue, fields: .mtime).mtime
    file.times.withLock { times in
      if times.modification == nil { times.modification = time }
    }
    return time
  }

  /// Commits and brings the file to the disk. What only makes later work cheaper, and the time of a write,
  /// waits for the next `commit`.
  func sync(_ inode: Inode, _ file: OpenFile, dataOnly: Bool) throws {
    guard let descriptor = file.sharedDescriptor() else { return }
    guard let stored = file.sharedStored() else {
      return dataOnly
        ? try Sys.fdatasync(descriptor.rawValue) : try Sys.fsync(descriptor.rawValue)
    }
    guard !isReadOnly else { return }
    try file.commitLock.withLock { _ in
      let dirtySince = file.dirtySince.exchange(0, ordering: .relaxed)
      // Cleared before: what is committed while the disk works is unsynced again.
      file.isUnsynced.store(false, ordering: .relaxed)
      let before = file.times.withLock { $0 }
      do {
        let mayWait = before.modification != nil && !before.isFixed
        let time =
          mayWait || !stored.file.isDirty
          ? nil : try modificationTime(before, file, stored.descriptor)
        try stored.sync(modificationTime: time, hint: .later)
      } catch {
        file.isUnsynced.store(true, ordering: .relaxed)
        file.dirtySince.store(max(dirtySince, 1), ordering: .relaxed)
        maintenance.watch(inode, file)
        throw error
      }
    }
    if stored.file.isDirty {
      file.noteDirty()
      maintenance.watch(inode, file)
    }
  }

  /// Notes a change of content, for the times and for the background commit.
  func changed(_ inode: Inode, _ file: OpenFile) {
    guard file.container != nil else { return }
    file.touch()
    maintenance.watch(inode, file)
  }

  /// Notes that a file was made, whose times the kernel is about to be told.
  func noteCreated(_ inode: Inode, _ file: OpenFile, _ status: FileStatus, in parent: Inode) {
    guard file.container != nil else { return }
    if parent.defaultList.load(ordering: .relaxed) == .absent {
      inode.attributes.store(.absent, ordering: .relaxed)
    }
    file.setModification(status.mtime)
    file.noteDirty()
    maintenance.watch(inode, file)
  }
}
