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
      let blocks = min(whole, (Scratch.runPages << 12) >> Int(policy.blockShift))
      try storeDirectly(block, from: source, blocks: blocks)
      return blocks << Int(policy.blockShift)
    }
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
    drop(try tree.mutableSpan(0).references)
    tail = nil
    cache.invalidate()
    isChanged = true
  }

  /// Makes a reference a hole.
  private func drop(_ slot: UnsafeMutablePointer<Reference>) {
    if !slot.pointee.isHole { allocator.release(slot.pointee.extent) }
    slot.pointee = .hole
  }

  // MARK: Storing blocks

  /// Stores whole blocks without buffering them.
  private func storeDirectly(
    _ first: UInt64, from source: UnsafeRawPointer, blocks: Int
  ) throws(ContainerError) {
    try prepareToWrite()
    let scratch = workspace.takeScratch()
    defer { workspace.give(scratch) }
    tree.grow(toHold: first + UInt64(blocks))
    var index = 0
    while index < blocks {
      let span = try tree.mutableSpan(first + UInt64(index))
      let count = min(blocks - index, span.count)
      for offset in 0..<count { scratch.slots[index + offset] = span.references + offset }
      index += count
    }
    for index in 0..<blocks {
      scratch.sources[index] = (source + index << Int(policy.blockShift)).buffer(policy.blockSize)
    }
    let usedPages = try sealRun(blocks, scratch)
    try place(scratch, blocks: blocks, pageCount: usedPages)
    cache.invalidate()
    if !buffer.isEmpty { buffer.remove(first..<(first + UInt64(blocks))) }
  }

  /// Stores every buffered block.
  func flush() throws(ContainerError) {
    if buffer.isEmpty { return }
    try prepareToWrite()
    let scratch = workspace.takeScratch()
    defer { workspace.give(scratch) }
    let blocks = buffer.blocks
    let perRun = (Scratch.runPages << 12) >> Int(policy.blockShift)
    if let last = blocks.last { tree.grow(toHold: last + 1) }
    var next = 0
    while next < blocks.count {
      let count = min(perRun, blocks.count - next)
      for index in 0..<count {
        let block = blocks[next + index]
        guard let entry = buffer[block] else { preconditionFailure("listed, so present") }
        scratch.slots[index] = try tree.mutableSpan(block).references
        scratch.sources[index] = UnsafeRawPointer(entry.memory).buffer(storedCount(block, entry))
      }
      let usedPages = try sealRun(count, scratch)
      try place(scratch, blocks: count, pageCount: usedPages)
      for block in blocks[next..<(next + count)] { buffer.remove(block) }
      next += count
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
    if inPages > 0 {
      let pageCount = Format.pages(for: inPages)
      scratch.run.zero(from: inPages + kept, count: max(0, pageCount << 12 - length))
      scratch.references[0] = Reference(
        page: 0, length: inPages, codec: kept > 0 ? .raw : codec, epoch: pages.limits.epoch)
      let bytes = [UInt8]((scratch.run + inPages).buffer(kept))
      var cipher = pages.cipher()
      try cipher.seal(scratch.references, scratch.run, into: scratch.run)
      pages.seals += 1
      scratch.slots[0] = slot
      try place(scratch, blocks: 1, pageCount: pageCount)
      tail = kept > 0 ? BlockTail(codec: codec, bytes: bytes) : nil
    } else {
      drop(slot)
      tail = BlockTail(codec: codec, bytes: [UInt8](scratch.run.buffer(kept)))
    }
    buffer.remove(0)
  }

  /// Bytes of a buffered block that need to be stored.
  private func storedCount(_ block: UInt64, _ entry: BlockBuffer.Entry) -> Int {
    if !policy.isCompressed { return policy.blockSize }
    let rest = logicalSize - min(logicalSize, block << policy.blockShift)
    return max(1, Int(min(rest, UInt64(entry.capacity))))
  }

  /// Writes the sealed blocks of the scratch run to free pages and puts their references where
  /// `scratch.slots` says. After an error nothing has changed.
  private func place(_ scratch: Scratch, blocks: Int, pageCount: Int) throws(ContainerError) {
    var placed = 0
    var offset = 0
    var taken: [Extent] = []
    do throws(ContainerError) {
      while placed < blocks {
        let extent = try nextExtent(
          for: UInt64(pageCount - offset), first: scratch.references[placed].pageCount)
        taken.append(extent)
        var page = extent.start
        while placed < blocks, page < extent.end {
          scratch.references[placed].page = page
          page += UInt64(scratch.references[placed].pageCount)
          placed += 1
        }
        let count = Int(extent.count) << 12
        try pages.write(
          page: extent.start,
          from: UnsafeRawBufferPointer((scratch.run + offset << 12).buffer(count)))
        offset += Int(extent.count)
      }
    } catch {
      for extent in taken { allocator.giveBack(extent) }
      throw error
    }
    for index in 0..<blocks {
      let slot = scratch.slots[index]
      if !slot.pointee.isHole { allocator.release(slot.pointee.extent) }
      slot.pointee = scratch.references[index]
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
