import Primitives
import SystemPackage

extension ContainerFile {
  /// Reads, decrypting in the caller's buffer. Holes are zeros.
  ///
  /// - Parameters:
  ///   - offset: Logical offset in bytes.
  ///   - buffer: Where the bytes go; its content is undefined after an error.
  /// - Returns: How many bytes; fewer than asked for only at the end of the file.
  /// - Throws: `.io`, `.damaged`, `.keyMissing`, `.crypto`.
  public func read(
    at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(ContainerError) -> Int {
    let count = try withWrittenPages { () throws(ContainerError) -> Int in
      guard let start = buffer.baseAddress, offset < logicalSize else { return 0 }
      let count = Int(min(UInt64(buffer.count), logicalSize - offset))
      if self.buffer.isEmpty {
        try readStored(at: offset, into: start, count: count)
      } else {
        try readBuffered(at: offset, into: start, count: count)
      }
      return count
    }
    if tree.isOverLimit { lock.withWriteLock { tree.evict() } }
    return count
  }

  /// Does something with the lock held for reading when all pages are in the backing file.
  private func withWrittenPages<R>(
    _ body: () throws(ContainerError) -> R
  ) throws(ContainerError) -> R {
    while true {
      let result = try lock.withReadLock { () throws(ContainerError) -> R? in
        if behind != nil { return nil }
        return try body()
      }
      if let result { return result }
      try lock.withWriteLock { () throws(ContainerError) in try settleBehind() }
    }
  }

  /// Reads where some blocks may be in the buffer.
  private func readBuffered(
    at offset: UInt64, into target: UnsafeMutableRawPointer, count: Int
  ) throws(ContainerError) {
    var done = 0
    var storedFrom = 0
    while done < count {
      let position = offset + UInt64(done)
      let inBlock = Int(position & UInt64(policy.blockSize - 1))
      let part = min(policy.blockSize - inBlock, count - done)
      if let entry = buffer[position >> policy.blockShift] {
        if storedFrom < done {
          try readStored(
            at: offset + UInt64(storedFrom), into: target + storedFrom, count: done - storedFrom)
        }
        BlockBuffer.copy(entry, from: inBlock, into: target + done, count: part)
        workspace.blockCache.countHit()
        storedFrom = done + part
      }
      done += part
    }
    if storedFrom < count {
      try readStored(
        at: offset + UInt64(storedFrom), into: target + storedFrom, count: count - storedFrom)
    }
  }

  /// Reads what the tree refers to.
  func readStored(
    at offset: UInt64, into target: UnsafeMutableRawPointer, count: Int
  ) throws(ContainerError) {
    var cipher = pages.cipher()
    var done = 0
    while done < count {
      let position = offset + UInt64(done)
      let block = position >> policy.blockShift
      let inBlock = Int(position & UInt64(policy.blockSize - 1))
      let span = try tree.locate(block)
      if let references = span.references, !references.pointee.isHole || tail(of: block) != nil {
        if !policy.isCompressed {
          done += try readRun(
            span, block, from: inBlock, into: target + done, count: count - done, &cipher)
        } else if inBlock == 0, let blocks = wholeBlocks(span, block, count: count - done) {
          try readWhole(references, blocks, into: target + done)
          done += blocks << Int(policy.blockShift)
        } else {
          done += try readCompressed(
            references, block, from: inBlock, into: target + done, count: count - done, &cipher)
        }
      } else {
        let blocks = span.references == nil ? span.count : 1
        let covered = blocks.multipliedReportingOverflow(by: UInt64(policy.blockSize))
        let zeros = covered.overflow ? UInt64.max : covered.partialValue - UInt64(inBlock)
        let part = Int(min(zeros, UInt64(count - done)))
        target.zero(from: done, count: part)
        done += part
      }
    }
  }

  /// What the header holds of a block.
  @inline(__always) func tail(of block: UInt64) -> BlockTail? { block == 0 ? tail : nil }

  // MARK: 4 KiB blocks

  /// Reads blocks from consecutive pages at once.
  ///
  /// - Returns: How many bytes were read.
  private func readRun(
    _ span: Tree.Span, _ block: UInt64, from inBlock: Int, into target: UnsafeMutableRawPointer,
    count: Int, _ cipher: inout Cipher
  ) throws(ContainerError) -> Int {
    guard let first = span.references else { return 0 }
    if inBlock == 0, count == Format.pageSize {
      workspace.blockCache.countMiss()
      try pages.read(first, into: target, &cipher)
      return Format.pageSize
    }
    let scratch = workspace.takeScratch()
    defer { workspace.give(scratch) }
    let wanted = min((inBlock + count + Format.pageSize - 1) >> 12, Scratch.runPages)
    let blocks = try gather(span, block, limit: wanted, into: scratch.slots)
    workspace.blockCache.countMiss(blocks)
    let part = min(count, blocks << 12 - inBlock)
    let end = inBlock + part

    // Blocks wanted only in part go to scratch pages: the first, the last, or one that is both.
    let hasHead = inBlock > 0 || end < Format.pageSize
    let hasTail = blocks > 1 && end & (Format.pageSize - 1) != 0
    let head = scratch.run
    let tail = scratch.run + Format.pageSize
    let bodyStart = hasHead ? Format.pageSize - inBlock : 0
    let bodyBlocks = blocks - (hasHead ? 1 : 0) - (hasTail ? 1 : 0)
    let done: Int
    do {
      done = try pages.store.read(
        at: first.pointee.page << 12, head: head.buffer(hasHead ? Format.pageSize : 0),
        body: (target + bodyStart).buffer(bodyBlocks << 12),
        tail: tail.buffer(hasTail ? Format.pageSize : 0))
    } catch {
      throw .io(error)
    }
    guard done == blocks << 12 else {
      throw .damaged(Damage(.missingPages, page: first.pointee.page + UInt64(done >> 12)))
    }
    try openBlocks(
      scratch.slots + (hasHead ? 1 : 0), target + bodyStart, count: bodyBlocks, &cipher)
    if hasHead {
      try cipher.open(scratch.slots[0], head)
      target.copyMemory(from: head + inBlock, byteCount: min(part, Format.pageSize - inBlock))
    }
    if hasTail {
      try cipher.open(scratch.slots[blocks - 1], tail)
      let tailCount = end & (Format.pageSize - 1)
      (target + (part - tailCount)).copyMemory(from: tail, byteCount: tailCount)
    }
    return part
  }

  /// Verifies and decrypts blocks in place, many on several processors.
  private func openBlocks(
    _ slots: UnsafeMutablePointer<UnsafeMutablePointer<Reference>>,
    _ start: UnsafeMutableRawPointer, count: Int, _ cipher: inout Cipher
  ) throws(ContainerError) {
    guard count << 12 >= Workspace.shareLimit else {
      for index in 0..<count { try cipher.open(slots[index], start + index << 12) }
      return
    }
    let perPart = 32
    try workspace.share(parts: (count + perPart - 1) / perPart) { part throws(ContainerError) in
      var cipher = self.pages.cipher()
      for index in part * perPart..<min(count, (part + 1) * perPart) {
        try cipher.open(slots[index], start + index << 12)
      }
    }
  }

  /// Collects the references of blocks that lie in consecutive pages.
  ///
  /// - Returns: How many, at least one.
  private func gather(
    _ span: Tree.Span, _ block: UInt64, limit: Int,
    into slots: UnsafeMutablePointer<UnsafeMutablePointer<Reference>>
  ) throws(ContainerError) -> Int {
    var span = span
    var inSpan = 0
    var count = 0
    var page: UInt64 = 0
    while count < limit {
      if inSpan == Int(clamping: span.count) {
        span = try tree.locate(block + UInt64(count))
        inSpan = 0
      }
      guard let references = span.references else { break }
      let reference = references + inSpan
      if reference.pointee.isHole || (count > 0 && reference.pointee.page != page) { break }
      slots[count] = reference
      page = reference.pointee.page + 1
      count += 1
      inSpan += 1
    }
    return count
  }

  // MARK: 128 KiB blocks

  /// How many whole blocks are stored one after another; nil if there are too few of them to be
  /// read on several processors.
  private func wholeBlocks(_ span: Tree.Span, _ block: UInt64, count: Int) -> Int? {
    let rest = logicalSize - block << policy.blockShift
    let limit = min(span.count, min(UInt64(count), rest) >> policy.blockShift)
    guard let references = span.references, limit >= 2 else { return nil }
    var blocks = 0
    while blocks < Int(limit), !references[blocks].isHole { blocks += 1 }
    return blocks >= 2 ? blocks : nil
  }

  /// Reads whole blocks on several processors.
  private func readWhole(
    _ references: UnsafePointer<Reference>, _ blocks: Int, into target: UnsafeMutableRawPointer
  ) throws(ContainerError) {
    workspace.blockCache.countMiss(blocks)
    try workspace.share(parts: blocks) { part throws(ContainerError) in
      let scratch = self.workspace.takeScratch()
      defer { self.workspace.give(scratch) }
      var cipher = self.pages.cipher()
      try self.pages.decode(
        references + part,
        into: (target + part << Int(self.policy.blockShift)).buffer(self.policy.blockSize),
        scratch, &cipher)
    }
  }

  /// Reads a part of one block.
  ///
  /// - Returns: How many bytes were read.
  private func readCompressed(
    _ reference: UnsafePointer<Reference>, _ block: UInt64, from inBlock: Int,
    into target: UnsafeMutableRawPointer, count: Int, _ cipher: inout Cipher
  ) throws(ContainerError) -> Int {
    let part = min(count, policy.blockSize - inBlock)
    let rest = logicalSize - block << policy.blockShift
    let isWhole = inBlock == 0 && UInt64(part) >= min(rest, UInt64(policy.blockSize))
    if !isWhole, cache.read(block, from: inBlock, into: target.buffer(part)) {
      workspace.blockCache.countHit()
      return part
    }
    workspace.blockCache.countMiss()
    let scratch = workspace.takeScratch()
    defer { workspace.give(scratch) }
    if isWhole {
      try pages.decode(reference, tail(of: block), into: target.buffer(part), scratch, &cipher)
    } else {
      try pages.decode(
        reference, tail(of: block), into: scratch.block.buffer(policy.blockSize), scratch, &cipher)
      cache.store(block, UnsafeRawBufferPointer(scratch.block.buffer(policy.blockSize)))
      target.copyMemory(from: scratch.block + inBlock, byteCount: part)
    }
    return part
  }
}
