import Primitives
import SystemPackage

extension ContainerFile {
  /// Writes what waits, as one atomic change. After an error the commit before still counts and
  /// the call may be repeated.
  ///
  /// - Parameter modificationTime: Set on the backing file afterwards.
  /// - Returns: false if there was nothing to write.
  /// - Throws: `.io`, `.damaged`, `.keyMissing`, `.crypto`.
  @discardableResult
  public func commit(modificationTime: TimeSpec? = nil) throws(ContainerError) -> Bool {
    let committed = try commitLock.withWriteLock { () throws(ContainerError) -> Bool in
      try lock.withWriteLock { () throws(ContainerError) -> Bool in
        try commitLocked(modificationTime, statesAllFreePages: true)
      }
    }
    try endQuarantine()
    return committed
  }

  /// Commits and waits until the medium has it.
  ///
  /// - Parameter modificationTime: Set on the backing file if something was committed.
  /// - Returns: false if there was nothing to commit.
  /// - Throws: As `commit`.
  @discardableResult
  public func sync(modificationTime: TimeSpec? = nil) throws(ContainerError) -> Bool {
    try commitLock.withWriteLock { () throws(ContainerError) -> Bool in
      let committed = try lock.withWriteLock { () throws(ContainerError) -> Bool in
        let committed = try commitLocked(modificationTime, statesAllFreePages: false)
        if history.isSyncSuspect { try rewriteUnsynced() }
        return committed
      }
      if lock.withReadLock({ history.durable == history.commit }) { return committed }
      // Only commits change the slots and they wait, so reads and writes need not.
      do throws(ContainerError) {
        try pages.sync(withTimes: lock.withReadLock { !history.isTimeDurable })
      } catch {
        lock.withWriteLock { history.isSyncSuspect = true }
        throw error
      }
      lock.withWriteLock {
        let wasNeverDurable = allocator.neverDurable
        noteDurable()
        planRepeat(countingFreePages: wasNeverDurable)
      }
      return committed
    }
  }

  /// Syncs a file of which much waits for its first sync before it can be used again.
  func endQuarantine() throws(ContainerError) {
    let isDue = lock.withReadLock {
      !history.isDurabilityUnknown
        && allocator.quarantinedPages > max(1024, allocator.end / 4)
    }
    if isDue { try sync() }
  }

  // MARK: Durability

  private func noteDurable() {
    history.durable = history.commit
    history.isDurabilityUnknown = false
    history.isSyncSuspect = false
    history.isTimeDurable = true
    history.isRepeat = false
    allocator.becomeDurable()
  }

  /// Makes the last commit durable.
  func makeDurable() throws(ContainerError) {
    if history.isSyncSuspect { try rewriteUnsynced() }
    do throws(ContainerError) {
      try pages.sync(withTimes: !history.isTimeDurable)
    } catch {
      history.isSyncSuspect = true
      throw error
    }
    noteDurable()
  }

  /// Writes the pages since the last successful sync again. A failed sync leaves them marked as
  /// written in the kernel's cache, and the next one would succeed without them.
  private func rewriteUnsynced() throws(ContainerError) {
    let scratch = workspace.takeScratch()
    defer { workspace.give(scratch) }
    let everything = Extent(start: 0, count: allocator.end)
    let slot = Extent(start: UInt64(history.slot), count: 1)
    let isAll = history.isDurabilityUnknown || history.durable == 0
    for extent in isAll ? [everything] : allocator.unsynced + [slot] {
      var page = extent.start
      while page < extent.end {
        let count = Int(min(extent.end - page, UInt64(Scratch.runPages))) << 12
        let done: Int
        do {
          done = try pages.store.read(at: page << 12, into: scratch.run.buffer(count))
        } catch {
          throw .io(error)
        }
        if done == 0 { break }
        try pages.write(page: page, from: UnsafeRawBufferPointer(scratch.run.buffer(done)))
        page += UInt64(count >> 12)
      }
    }
  }

  /// Has the next commit replace the one before the durable one, if many pages are kept only for
  /// it, or were kept until the first sync, or if it would count were the durable one taken away.
  private func planRepeat(countingFreePages: Bool) {
    let idle = countingFreePages ? allocator.idlePages : allocator.heldPages
    history.isRepeatDue = history.isOtherFirst || idle > max(256, allocator.end / 4)
  }

  /// Gives large free parts in the middle of the backing file back.
  private func discardFreePages() {
    for extent in allocator.free.all where extent.count >= 256 {
      try? pages.store.discard(at: extent.start << 12, count: extent.count << 12)
    }
  }

  // MARK: Committing

  /// - Parameters:
  ///   - modificationTime: As for `commit`.
  ///   - statesAllFreePages: Whether a long free list is written too.
  /// - Returns: Whether a header was written.
  /// - Throws: As `commit`.
  private func commitLocked(
    _ modificationTime: TimeSpec?, statesAllFreePages: Bool
  ) throws(ContainerError) -> Bool {
    try settleBehind()
    var committed = false
    let isRepeatDue = statesAllFreePages && history.isRepeatDue
    if isChanged || isRepeatDue || (isListPartial && statesAllFreePages) {
      let isRepeat = !isChanged && (history.durable == history.commit || history.isRepeat)
      try prepareToWrite()
      if let tail, fitsInline || tail.bytes.count > Header.tailRoom(bindings: names.count) {
        try unpack()
      }
      if fitsInline {
        try gatherInline()
      } else if canPack {
        try pack()
      } else {
        try flush()
        tree.grow(toHold: blocks(for: logicalSize))
        try writeNodes()
      }
      isInline = fitsInline
      do throws(ContainerError) {
        try writeHeader(statesAllFreePages: statesAllFreePages)
        history.isRepeat = isRepeat
        committed = true
      } catch {
        // Everything is stored already; a later commit tries again.
        guard isRepeat, case .io = error else { throw error }
      }
      isChanged = false
      pendingTime = modificationTime ?? pendingTime
      if isInline { buffer.settle(0) }
      if tree.isOverLimit { tree.evict() }
    }
    // A file that is synced again and again would be cut and grow again each time.
    if statesAllFreePages || idleTail > 64 { cutTail() }
    if isRepeatDue { discardFreePages() }
    if let time = pendingTime {
      do {
        try pages.store.setModificationTime(time)
      } catch {
        throw .io(error)
      }
      pendingTime = nil
    }
    return committed
  }

  private var fitsInline: Bool {
    logicalSize <= UInt64(Header.inlineRoom(bindings: names.count))
  }

  /// Brings the content of a small file into memory, and takes it out of the tree.
  private func gatherInline() throws(ContainerError) {
    if logicalSize > 0, buffer[0] == nil,
      let reference = try tree.locate(0).references, !reference.pointee.isHole
    {
      _ = try bufferedBlock(0, toHold: Int(logicalSize))
    }
    try tree.prepareToClear(0..<Format.blocksCovered(depth: tree.depth))
    tree.clear(0..<Format.blocksCovered(depth: tree.depth))
    tree.shrink(toHold: 0)
  }

  /// Stores changed nodes, children before parents, as parents hold their tags.
  private func writeNodes() throws(ContainerError) {
    let dirty = tree.collectDirty()
    if dirty.isEmpty { return }
    let scratch = workspace.takeScratch()
    defer { workspace.give(scratch) }
    var cipher = pages.cipher()
    var next = 0
    while next < dirty.count {
      let wanted = UInt64(min(dirty.count - next, Scratch.runPages))
      guard let extent = allocator.allocate(atMost: wanted) else { throw .tooLarge }
      pages.limits.pageCount = max(pages.limits.pageCount, allocator.end)
      let batch = dirty[next..<(next + Int(extent.count))]
      do throws(ContainerError) {
        for (index, item) in batch.enumerated() {
          let target = scratch.run + index << 12
          let reference = item.parent.references + item.index
          reference.pointee = Reference(
            page: extent.start + UInt64(index), length: Format.pageSize, codec: .raw,
            epoch: pages.limits.epoch)
          try cipher.seal(reference, item.node.page, into: target)
          pages.seals += 1
        }
        try pages.write(
          page: extent.start,
          from: UnsafeRawBufferPointer(scratch.run.buffer(Int(extent.count) << 12)))
      } catch {
        for item in batch { item.parent.references[item.index] = .hole }
        allocator.giveBack(extent)
        throw error
      }
      for item in batch { item.node.setDirty(false) }
      next += batch.count
    }
  }

  /// Pages at the end of the backing file that nothing needs, as far as is known.
  var idleTail: UInt64 {
    let kept = history.isAlone && allocator.end == 2 ? 1 : allocator.end
    return allocator.neverDurable || pages.storedPages < kept ? 0 : pages.storedPages - kept
  }

  /// Cuts off free pages at the end of the backing file. It may stay longer if that fails.
  private func cutTail() {
    let tail = idleTail
    if tail > 0 { try? pages.truncate(toPages: pages.storedPages - tail) }
  }

  // MARK: The header

  /// Writes the free list and the header: the commit.
  ///
  /// - Parameter statesAllFreePages: Whether to write a long free list, which takes time.
  /// - Throws: `.io`, `.tooLarge`, `.keyMissing`, `.crypto`; the commit before still counts.
  func writeHeader(statesAllFreePages: Bool) throws(ContainerError) {
    let isOver = history.commit == 0 || history.durable != history.commit
    let target = isOver ? Allocator.Target.same : .other
    let slot = isOver ? history.slot : 1 - history.slot
    var header = Header(
      policy: policy, suite: pages.ring.keys.suite, epoch: pages.limits.epoch, fileID: fileID,
      commit: max(history.commit, history.highest) + 1, session: session)
    header.size = logicalSize
    header.depth = isInline ? 0 : tree.depth
    header.bindings = names
    header.bindingsOverflow = namesOverflow
    header.isAlone = history.isAlone && target == .same
    header.content =
      if isInline {
        .inline(inlineContent)
      } else if let tail {
        .packed(tree.rootReferences[0], tail)
      } else {
        .tree(tree.rootReferences)
      }

    let scratch = workspace.takeScratch()
    defer { workspace.give(scratch) }
    var cipher = pages.cipher()
    // One less, as a list is expected to grow by one.
    let room = statesAllFreePages ? nil : max(0, header.extentRoom - 1)
    var plan = allocator.plan(target, replacing: listPages, room: room)
    let counts = FreeList.pagesNeeded(
      free: FreeList.statable(plan.free).count, held: FreeList.statable(plan.held).count,
      room: header.extentRoom)
    var lists: [Extent] = []
    if counts.total > 0 {
      guard let extent = allocator.allocateForList(UInt64(counts.total)) else { throw .tooLarge }
      lists = [extent]
      plan = allocator.plan(target, replacing: listPages, room: room)
    }
    do throws(ContainerError) {
      header.heldCommit = plan.held.isEmpty ? 0 : target == .same ? history.other : history.commit
      header.pageCount = header.isAlone && plan.end == 2 ? 1 : plan.end
      let layout = FreeList.layout(
        free: FreeList.statable(plan.free), held: FreeList.statable(plan.held),
        heldCommit: header.heldCommit, room: header.extentRoom, pages: counts)
      header.free = layout.headerFree
      header.held = layout.headerHeld
      if let extent = lists.first {
        header.list = try writeList(layout.pages, to: extent, scratch, &cipher)
      }
      pages.seals += 1
      header.seals = pages.seals
      header.encode(into: scratch.run)
      try cipher.sealSlot(scratch.run, epoch: header.epoch)
      if target == .other { history.isAlone = false }
      try pages.write(
        page: UInt64(slot), from: UnsafeRawBufferPointer(scratch.run.buffer(Format.pageSize)))
    } catch {
      for extent in lists { allocator.giveBack(extent) }
      throw error
    }
    allocator.commit(plan, target, replacing: listPages)
    pages.limits.pageCount = allocator.end
    listPages = lists
    isListPartial = plan.unstated != nil
    if target == .other {
      history.other = history.commit
      history.isOtherFirst = history.isFirst
    }
    history.isFirst = header.isAlone
    history.isRepeatDue = false
    history.commit = header.commit
    history.highest = header.commit
    history.slot = slot
    committedSize = logicalSize
  }

  private var inlineContent: [UInt8] {
    let count = Int(logicalSize)
    guard let entry = buffer[0] else { return [UInt8](repeating: 0, count: count) }
    return [UInt8](unsafeUninitializedCapacity: count) { bytes, initialized in
      if let start = bytes.baseAddress {
        BlockBuffer.copy(entry, from: 0, into: start, count: count)
      }
      initialized = count
    }
  }

  /// Writes free-list pages, the last first, as each holds the tag of the next.
  ///
  /// - Returns: The reference of the first.
  private func writeList(
    _ list: [FreeList.Page], to extent: Extent, _ scratch: Scratch, _ cipher: inout Cipher
  ) throws(ContainerError) -> Reference {
    pages.limits.pageCount = max(pages.limits.pageCount, allocator.end)
    var next = Reference.hole
    for (index, page) in list.enumerated().reversed() {
      var page = page
      page.next = next
      FreeList.encode(page, into: scratch.run)
      next = Reference(
        page: extent.start + UInt64(index), length: Format.pageSize, codec: .raw,
        epoch: pages.limits.epoch)
      try cipher.seal(&next, scratch.run, into: scratch.run)
      pages.seals += 1
      try pages.write(
        page: next.page, from: UnsafeRawBufferPointer(scratch.run.buffer(Format.pageSize)))
    }
    return next
  }
}
