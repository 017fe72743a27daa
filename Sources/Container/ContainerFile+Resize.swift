import Primitives

extension ContainerFile {
  /// Sets the logical size; what is added reads as zeros.
  ///
  /// - Parameter size: In bytes. After an error the size may lie between the old and the new one.
  /// - Throws: `.tooLarge` beyond 2^57 bytes, `.io`, `.damaged`, `.keyMissing`, `.crypto`.
  public func truncate(to size: UInt64) throws(ContainerError) {
    guard size <= Format.maximumSize else { throw .tooLarge }
    try lock.withWriteLock { () throws(ContainerError) in
      if size == logicalSize { return }
      try settleBehind()
      try unpack(isOverwritten: size == 0)
      isChanged = true
      if size < logicalSize { try shrink(to: size) }
      logicalSize = size
    }
  }

  private func shrink(to size: UInt64) throws(ContainerError) {
    try relieve()
    try zero(from: size, to: min(logicalSize, roundedUp(size)))
    let kept = blocks(for: size)
    try clear(from: kept, to: blocks(for: logicalSize)) { block in
      logicalSize = max(size, block << policy.blockShift)
    }
    tree.shrink(toHold: kept)
  }

  /// Turns a range of bytes into zeros without changing the size.
  ///
  /// - Parameters:
  ///   - offset: Logical offset in bytes.
  ///   - count: How many bytes.
  /// - Throws: `.io`, `.damaged`, `.keyMissing`, `.crypto`; a part may be zero by then.
  public func punchHole(at offset: UInt64, count: UInt64) throws(ContainerError) {
    try lock.withWriteLock { () throws(ContainerError) in
      try punch(at: offset, count: count)
    }
  }

  /// Turns a range of bytes into zeros, and extends the file to hold it unless `keepSize`.
  ///
  /// - Parameters:
  ///   - offset: Logical offset in bytes.
  ///   - count: How many bytes.
  ///   - keepSize: Whether the size stays.
  /// - Throws: `.tooLarge` beyond 2^57 bytes, `.io`, `.damaged`, `.keyMissing`, `.crypto`.
  public func zeroRange(
    at offset: UInt64, count: UInt64, keepSize: Bool
  ) throws(ContainerError) {
    try lock.withWriteLock { () throws(ContainerError) in
      let end = try checkedEnd(offset, count)
      try punch(at: offset, count: count)
      if !keepSize { try extend(to: end) }
    }
  }

  /// Extends the file to hold a range of bytes, unless `keepSize`. Space is not reserved, as every
  /// write goes to new pages anyway.
  ///
  /// - Parameters:
  ///   - offset: Logical offset in bytes.
  ///   - count: How many bytes.
  ///   - keepSize: Whether the size stays.
  /// - Throws: `.tooLarge` beyond 2^57 bytes.
  public func allocate(
    at offset: UInt64, count: UInt64, keepSize: Bool
  ) throws(ContainerError) {
    try lock.withWriteLock { () throws(ContainerError) in
      let end = try checkedEnd(offset, count)
      if !keepSize { try extend(to: end) }
    }
  }

  private func extend(to size: UInt64) throws(ContainerError) {
    if size <= logicalSize { return }
    try unpack()
    logicalSize = size
    isChanged = true
  }

  private func checkedEnd(_ offset: UInt64, _ count: UInt64) throws(ContainerError) -> UInt64 {
    let end = offset.addingReportingOverflow(count)
    guard !end.overflow, end.partialValue <= Format.maximumSize else { throw .tooLarge }
    return end.partialValue
  }

  private func punch(at offset: UInt64, count: UInt64) throws(ContainerError) {
    guard offset < logicalSize, count > 0 else { return }
    try settleBehind()
    try relieve()
    try unpack(isOverwritten: offset == 0 && count >= logicalSize)
    let end = offset + min(count, logicalSize - offset)
    isChanged = true
    let firstWhole = blocks(for: offset)
    // The file's last block is whole if all its bytes go.
    let endWhole = end == logicalSize ? blocks(for: end) : end >> policy.blockShift
    try zero(from: offset, to: min(end, roundedUp(offset)))
    if endWhole << policy.blockShift < end, endWhole >= firstWhole {
      try zero(from: endWhole << policy.blockShift, to: end)
    }
    if firstWhole < endWhole { try clear(from: firstWhole, to: endWhole) { _ in } }
  }

  // MARK: Blocks

  func blocks(for size: UInt64) -> UInt64 {
    (size + UInt64(policy.blockSize) - 1) >> policy.blockShift
  }

  private func roundedUp(_ size: UInt64) -> UInt64 { blocks(for: size) << policy.blockShift }

  /// Zeroes bytes of one block, if it has any that are stored.
  private func zero(from start: UInt64, to end: UInt64) throws(ContainerError) {
    guard start < end else { return }
    let block = start >> policy.blockShift
    if buffer[block] == nil {
      guard let references = try tree.locate(block).references, !references.pointee.isHole else {
        return
      }
    }
    let inBlock = Int(start & UInt64(policy.blockSize - 1))
    let count = Int(end - start)
    let entry = try bufferedBlock(block, toHold: 0)
    if inBlock < entry.capacity {
      entry.memory.zero(from: inBlock, count: min(count, entry.capacity - inBlock))
    }
  }

  /// Turns whole blocks into holes, the last ones first.
  ///
  /// - Parameters:
  ///   - first: The first block.
  ///   - end: The block behind the last.
  ///   - cleared: Told from which block on all are holes.
  /// - Throws: As reading and writing nodes does.
  private func clear(
    from first: UInt64, to end: UInt64, _ cleared: (UInt64) -> Void
  ) throws(ContainerError) {
    cache.invalidate()
    // The nodes of a step are in memory at once: up to 20 MiB.
    let step: UInt64 = 4096 * UInt64(Format.nodeFanout)
    var upper = end
    while upper > first {
      // Most of a sparse file is never looked at.
      let dataEnd = max(first, try tree.dataEnd(below: upper))
      if dataEnd < upper {
        buffer.remove(dataEnd..<upper)
        cleared(dataEnd)
        upper = dataEnd
        continue
      }
      let lower = max(first, (upper - 1) / step * step)
      try tree.prepareToClear(lower..<upper)
      tree.clear(lower..<upper)
      buffer.remove(lower..<upper)
      cleared(lower)
      upper = lower
    }
  }

  // MARK: SEEK_DATA and SEEK_HOLE

  /// SEEK_DATA: the first offset that is not in a hole.
  ///
  /// - Parameter offset: Where to begin, in bytes.
  /// - Returns: `offset` or what follows it; nil if there is no more data.
  /// - Throws: `.io`, `.damaged`, `.keyMissing`, `.crypto`.
  public func nextData(from offset: UInt64) throws(ContainerError) -> UInt64? {
    try lock.withReadLock { () throws(ContainerError) -> UInt64? in
      try seek(from: offset, data: true)
    }
  }

  /// SEEK_HOLE: the first offset that is in a hole, the file's end counting as one.
  ///
  /// - Parameter offset: Where to begin, in bytes.
  /// - Returns: `offset` or what follows it; nil if `offset` is not inside the file.
  /// - Throws: `.io`, `.damaged`, `.keyMissing`, `.crypto`.
  public func nextHole(from offset: UInt64) throws(ContainerError) -> UInt64? {
    try lock.withReadLock { () throws(ContainerError) -> UInt64? in
      try seek(from: offset, data: false) ?? (offset < logicalSize ? logicalSize : nil)
    }
  }

  private func seek(from offset: UInt64, data: Bool) throws(ContainerError) -> UInt64? {
    guard offset < logicalSize else { return nil }
    let buffered = buffer.blocks
    var nextBuffered = 0
    var block = offset >> policy.blockShift
    while block << policy.blockShift < logicalSize {
      while nextBuffered < buffered.count, buffered[nextBuffered] < block { nextBuffered += 1 }
      let upcoming = nextBuffered < buffered.count ? buffered[nextBuffered] : UInt64.max
      var isData = true
      var count: UInt64 = 1
      if upcoming != block {
        let span = try tree.locate(block)
        isData = span.references.map { !$0.pointee.isHole || tail(of: block) != nil } ?? false
        if span.references == nil { count = min(span.count, upcoming - block) }
      }
      if isData == data { return max(offset, block << policy.blockShift) }
      let next = block.addingReportingOverflow(count)
      if next.overflow || next.partialValue >= blocks(for: logicalSize) { return nil }
      block = next.partialValue
    }
    return nil
  }
}
