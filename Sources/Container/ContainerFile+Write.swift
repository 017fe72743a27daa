import Primitives
import SystemPackage

extension ContainerFile {
  /// Writes of at least so many bytes of whole blocks go to pages at once.
  private static let directLimit = 64 << 10

  /// Writes; the bytes wait in memory or in free pages until a commit.
  ///
  /// - Parameters:
  ///   - offset: Logical offset in bytes.
  ///   - buffer: The bytes. After an error any first part of them may have been taken.
  /// - Throws: `.tooLarge` beyond 2^57 bytes, `.io`, `.damaged`, `.keyMissing`, `.crypto`.
  public func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer) throws(ContainerError) {
    try lock.withWriteLock { () throws(ContainerError) in
      guard let start = buffer.baseAddress, !buffer.isEmpty else { return }
      let end = offset.addingReportingOverflow(UInt64(buffer.count))
      guard !end.overflow, end.partialValue <= Format.maximumSize else { throw .tooLarge }
      try relieve()
      // What goes to pages at once may fail, and must find the old content then.
      let isOverwritten =
        offset == 0 && UInt64(buffer.count) >= logicalSize
        && buffer.count < ContainerFile.directLimit
      try unpack(isOverwritten: isOverwritten)
      var done = 0
      while done < buffer.count {
        let position = offset + UInt64(done)
        let part = try writePart(at: position, from: start + done, count: buffer.count - done)
        isChanged = true
        done += part
        logicalSize = max(logicalSize, position + UInt64(part))
      }
      if tree.isOverLimit { tree.evict() }
    }
    try endQuarantine()
  }

  /// Takes the first bytes of a write.
  ///
  /// - Returns: How many were taken.
  private func writePart(
    at position: UInt64, from source: UnsafeRawPointer, count: Int
  ) throws(ContainerError) -> Int {
    let block = position >> policy.blockShift
    let inBlock = Int(position & UInt64(policy.blockSize - 1))
    let whole = inBlock == 0 ? count >> Int(policy.blockShift) : 0
    if whole << Int(policy.blockShift) >= ContainerFile.directLimit {
      try storeDirectly(block, from: source, blocks: whole)
      return whole << Int(policy.blockShift)
    }
    try settleBehind()
    let part = min(policy.blockSize - inBlock, count)
    let entry = try bufferedBlock(
      block, toHold: inBlock + part, isOverwritten: part == policy.blockSize)
    (entry.memory + inBlock).copyMemory(from: source, byteCount: part)
    return part
  }

  /// Writes buffered blocks to pages if too much waits in memory.
  func relieve() throws(ContainerError) {
    guard workspace.budget.isExhausted, logicalSize > UInt64(Format.inlineLimit) else { return }
    try flush()
  }

  /// The buffer's copy of a block, for changing.
  ///
  /// - Parameters:
  ///   - block: Number of the block.
  ///   - count: Bytes from the block's start that the copy must have room for.
  ///   - isOverwritten: Whether the caller replaces the whole content.
  /// - Returns: The copy, in the buffer until the next flush.
  /// - Throws: As reading the block does.
  func bufferedBlock(
    _ block: UInt64, toHold count: Int, isOverwritten: Bool = false
  ) throws(ContainerError) -> BlockBuffer.Entry {
    cache.invalidate()
    if let entry = buffer[block] {
      buffer.setCounted(block, true)
      if entry.capacity >= count { return entry }
      return buffer.grow(block, capacity: policy.blockSize) ?? entry
    }
    // A small file's only block need not take all the memory of a block.
    let isSmall = block == 0 && max(logicalSize, UInt64(count)) <= UInt64(Format.pageSize)
    let entry = buffer.add(block, capacity: isSmall ? Format.pageSize : policy.blockSize)
    if isOverwritten { return entry }
    do throws(ContainerError) {
      try loadStored(block, into: entry)
    } catch {
      buffer.remove(block)
      throw error
    }
    return entry
  }

  private func loadStored(_ block: UInt64, into entry: BlockBuffer.Entry) throws(ContainerError) {
    let span = try tree.locate(block)
    guard let reference = span.references,
      !reference.pointee.isHole || tail(of: block) != nil
    else {
      entry.memory.zero(from: 0, count: entry.capacity)
      return
    }
    var cipher = pages.cipher()
    let scratch = workspace.takeScratch()
    defer { workspace.give(scratch) }
    try pages.decode(
      reference, tail(of: block), into: entry.memory.buffer(entry.capacity), scratch, &cipher)
  }

  /// Takes the block whose tail is in the header into the buffer, where it can be changed.
  ///
  /// - Parameter isOverwritten: Whether the caller replaces or drops the whole content.
  /// - Throws: As reading the block does.
  func unpack(isOverwritten: Bool = false) throws(ContainerError) {
    guard tail != nil else { return }
    if !isOverwritten { _ = try bufferedBlock(0, toHold: Int(logicalSize)) }
    replace(try tree.mutableSpan(0).references, with: .hole)
    tail = nil
    cache.invalidate()
    isChanged = true
  }

  /// Puts another reference in a place, and gives up the pages of the one before.
  private func replace(_ slot: UnsafeMutablePointer<Reference>, with reference: Reference) {
    if !slot.pointee.isHole { allocator.release(slot.pointee.extent) }
    slot.pointee = reference
  }

  // MARK: Storing blocks

  /// Stores whole blocks without buffering them.
  private func storeDirectly(
    _ first: UInt64, from source: UnsafeRawPointer, blocks: Int
  ) throws(ContainerError) {
    try prepareToWrite()
    tree.grow(toHold: first + UInt64(blocks))
    try store(blocks, behind: first) { (range, scratch) throws(ContainerError) in
      var index = 0
      while index < range.count {
        let span = try tree.mutableSpan(first + UInt64(range.lowerBound + index))
        let count = min(range.count - index, span.count)
        for offset in 0..<count { scratch.slots[index + offset] = span.references + offset }
        index += count
      }
      for (index, block) in range.enumerated() {
        scratch.sources[index] = (source + block << Int(policy.blockShift)).buffer(policy.blockSize)
      }
    } stored: { range in
      cache.invalidate()
      // Of several runs the first may be stored when the next fails.
      isChanged = true
      logicalSize = max(logicalSize, (first + UInt64(range.upperBound)) << policy.blockShift)
      if buffer.isEmpty { return }
      buffer.remove(first + UInt64(range.lowerBound)..<first + UInt64(range.upperBound))
    }
  }

  /// Stores every buffered block.
  func flush() throws(ContainerError) {
    if buffer.isEmpty { return }
    try prepareToWrite()
    let blocks = buffer.blocks
    if let last = blocks.last { tree.grow(toHold: last + 1) }
    try store(blocks.count) { (range, scratch) throws(ContainerError) in
      for (index, block) in blocks[range].enumerated() {
        guard let entry = buffer[block] else { preconditionFailure("listed, so present") }
        scratch.slots[index] = try tree.mutableSpan(block).references
        scratch.sources[index] = UnsafeRawPointer(entry.memory).buffer(storedCount(block, entry))
      }
    } stored: { range in
      for block in blocks[range] { buffer.remove(block) }
    }
  }

  /// Whether the header may take the end of the file's only block.
  var canPack: Bool {
    policy.isCompressed && logicalSize <= UInt64(policy.blockSize) && tree.depth == 0
      && buffer[0] != nil
  }

  /// Stores the only block, but what does not fill a page in the header.
  func pack() throws(ContainerError) {
    guard let entry = buffer[0] else { return }
    let scratch = workspace.takeScratch()
    defer { workspace.give(scratch) }
    let room = Header.tailRoom(bindings: names.count)
    let slot = try tree.mutableSpan(0).references
    let source = UnsafeRawPointer(entry.memory).buffer(storedCount(0, entry))
    let (length, codec) = encode(source, tailRoom: room, scratch)
    let rest = length <= room ? length : length & (Format.pageSize - 1)
    let kept = rest <= room ? rest : 0
    let inPages = length - kept
    let bytes = [UInt8]((scratch.run + inPages).buffer(kept))
    if inPages > 0 {
      let pageCount = Format.pages(for: inPages)
      scratch.run.zero(from: length, count: max(0, pageCount << 12 - length))
      scratch.references[0] = Reference(
        page: 0, length: inPages, codec: kept > 0 ? .raw : codec, epoch: pages.limits.epoch)
      var cipher = pages.cipher()
      try cipher.seal(scratch.references, scratch.run, into: scratch.run)
      pages.seals += 1
      scratch.slots[0] = slot
      try place(Run(scratch: scratch, blocks: 0..<1, pageCount: pageCount))
    } else {
      replace(slot, with: .hole)
    }
    tail = kept > 0 ? BlockTail(codec: codec, bytes: bytes) : nil
    buffer.remove(0)
  }

  /// Bytes of a buffered block that need to be stored.
  private func storedCount(_ block: UInt64, _ entry: BlockBuffer.Entry) -> Int {
    if !policy.isCompressed { return policy.blockSize }
    let rest = logicalSize - min(logicalSize, block << policy.blockShift)
    return max(1, Int(min(rest, UInt64(entry.capacity))))
  }

  /// Blocks on their way to free pages.
  struct Run {
    let scratch: Scratch
    let blocks: Range<Int>
    /// Pages that they take, once they are sealed.
    var pageCount = 0
  }

  /// Seals blocks and writes them to free pages, in runs: each is written while the next is sealed. After an error
  /// nothing has changed for the blocks that `stored` has not heard of.
  ///
  /// - Parameters:
  ///   - count: How many blocks.
  ///   - first: Number of the first of them where they are consecutive and the last run may be written later.
  ///   - gather: Says for a range of them in `sources` what they hold, and in `slots` where their references go.
  ///   - stored: Hears of a range that is stored.
  /// - Throws: `.io`, `.crypto`, `.keyMissing`, `.tooLarge`, and what `gather` throws.
  private func store(
    _ count: Int, behind first: UInt64? = nil,
    gather: (Range<Int>, Scratch) throws(ContainerError) -> Void,
    stored: (Range<Int>) -> Void
  ) throws(ContainerError) {
    let perRun = (Scratch.runPages << 12) >> Int(policy.blockShift)
    var sealed: Run?
    var next = 0
    while sealed != nil || next < count {
      var run: Run?
      if next < count {
        let blocks = next..<min(next + perRun, count)
        let scratch = workspace.takeScratch()
        try gather(blocks, scratch)
        run = Run(scratch: scratch, blocks: blocks)
        next = blocks.upperBound
      }
      if sealed != nil { try settleBehind() }
      if run == nil, let first, let last = sealed,
        try leaveBehind(last, first: first + UInt64(last.blocks.lowerBound))
      {
        return stored(last.blocks)
      }
      let extents = try sealed.map { (run) throws(ContainerError) in try reserve(run) } ?? []
      do throws(ContainerError) {
        if let started = run {
          var other: (() throws(ContainerError) -> Void)?
          if let sealed {
            other = { () throws(ContainerError) in try self.write(sealed, to: extents) }
          }
          run?.pageCount = try sealRun(started.blocks.count, started.scratch, beside: other)
        } else if let sealed {
          try write(sealed, to: extents)
        }
      } catch {
        for extent in extents { allocator.giveBack(extent) }
        throw error
      }
      if let sealed {
        settle(sealed)
        stored(sealed.blocks)
        workspace.give(sealed.scratch)
        hasFailedBehind = false
      }
      sealed = run
    }
  }

  /// Writes sealed blocks to free pages. After an error nothing has changed.
  private func place(_ run: Run) throws(ContainerError) {
    let extents = try reserve(run)
    do throws(ContainerError) {
      try write(run, to: extents)
    } catch {
      for extent in extents { allocator.giveBack(extent) }
      throw error
    }
    settle(run)
  }

  /// Takes free pages for sealed blocks, and says so in their references.
  func reserve(_ run: Run) throws(ContainerError) -> [Extent] {
    let references = run.scratch.references
    var placed = 0
    var count: UInt64 = 0
    var taken: [Extent] = []
    while placed < run.blocks.count {
      do throws(ContainerError) {
        taken.append(
          try nextExtent(
            for: UInt64(run.pageCount) - count, first: references[placed].pageCount))
      } catch {
        for extent in taken { allocator.giveBack(extent) }
        throw error
      }
      let extent = taken[taken.count - 1]
      var page = extent.start
      while placed < run.blocks.count, page < extent.end {
        references[placed].page = page
        page += UInt64(references[placed].pageCount)
        placed += 1
      }
      count += extent.count
    }
    return taken
  }

  private func write(_ run: Run, to extents: [Extent]) throws(ContainerError) {
    try pages.put(run.scratch.run, to: extents)
    pages.expect(extents)
  }

  /// Puts the references of written blocks where `slots` says.
  func settle(_ run: Run) {
    for index in 0..<run.blocks.count {
      replace(run.scratch.slots[index], with: run.scratch.references[index])
    }
  }

  /// Pages for the rest of a run: consecutive ones if possible, else for as many whole blocks as
  /// free pages allow.
  private func nextExtent(for count: UInt64, first: Int) throws(ContainerError) -> Extent {
    let extent =
      policy.isCompressed
      ? allocator.reuse(exactly: count) ?? allocator.reuse(exactly: UInt64(first))
        ?? allocator.grow(by: count)
      : allocator.allocate(atMost: count)
    guard let extent else { throw .tooLarge }
    pages.limits.pageCount = max(pages.limits.pageCount, allocator.end)
    return extent
  }
}
