import Primitives

/// Whether compressing is worth trying: content that keeps not shrinking is not tried every time.
struct CompressionTrial {
  private static let patience = 8
  private static let pause = 64
  private var failures = 0
  private var skipped = 0

  /// Whether to try the next block.
  mutating func shouldTry() -> Bool {
    if failures < CompressionTrial.patience { return true }
    skipped += 1
    if skipped < CompressionTrial.pause { return false }
    skipped = 0
    return true
  }

  mutating func note(shrank: Bool) { failures = shrank ? 0 : failures + 1 }
}

extension ContainerFile {
  /// Encodes and seals the blocks of `scratch.sources` into the scratch run, one right after
  /// another; many on several processors.
  ///
  /// - Parameters:
  ///   - blocks: How many; they fit into the run as they are.
  ///   - scratch: Gets the sealed pages, and references that lack only their places.
  ///   - other: What else to do meanwhile.
  /// - Returns: How many pages they take.
  /// - Throws: `.crypto`, `.keyMissing`, and what `other` throws.
  func sealRun(
    _ blocks: Int, _ scratch: Scratch, beside other: (() throws(ContainerError) -> Void)?
  ) throws(ContainerError) -> Int {
    // A run holds few blocks that may be compressed.
    var tries: UInt64 = 0
    if policy.isCompressed {
      for index in 0..<blocks where trial.shouldTry() { tries |= 1 << UInt64(index) }
    }
    // Before, as those of a run that fails count too.
    pages.seals += UInt64(blocks)
    let perBlock = policy.blockSize / Format.pageSize
    let bytes = blocks << Int(policy.blockShift)
    if bytes >= Workspace.shareLimit || other != nil {
      let perPart = policy.isCompressed ? 1 : 32
      let chosen = tries
      let others = other == nil ? 0 : 1
      let parts = others + (blocks + perPart - 1) / perPart
      try workspace.share(parts: parts) { part throws(ContainerError) in
        // The longest part, so the first.
        if let other, part == 0 { return try other() }
        let part = part - others
        let range = part * perPart..<min(blocks, (part + 1) * perPart)
        let own = self.policy.isCompressed ? self.workspace.takeScratch() : nil
        defer { if let own { self.workspace.give(own) } }
        try self.seal(range, tries: chosen, scratch, own?.compressor)
      }
    } else {
      try seal(0..<blocks, tries: tries, scratch, scratch.compressor)
    }
    guard policy.isCompressed else { return blocks }
    var used = 0
    for index in 0..<blocks {
      let isShrunk = scratch.references[index].codec == Codec.zstd.rawValue
      if tries & 1 << UInt64(index) != 0 { trial.note(shrank: isShrunk) }
      let taken = scratch.references[index].pageCount
      if used < index * perBlock {
        (scratch.run + used << 12).copyMemory(
          from: scratch.run + (index * perBlock) << 12, byteCount: taken << 12)
      }
      used += taken
    }
    return used
  }

  /// Encodes and seals blocks, each to where it would be if none shrank.
  ///
  /// - Parameters:
  ///   - range: Numbers of the blocks in the run.
  ///   - tries: Which of them to compress, a bit for each.
  ///   - scratch: Holds the run.
  ///   - compressor: For this call alone; nil where nothing is compressed.
  /// - Throws: `.crypto`, `.keyMissing`.
  private func seal(
    _ range: Range<Int>, tries: UInt64, _ scratch: Scratch, _ compressor: Compressor?
  ) throws(ContainerError) {
    var cipher = pages.cipher()
    for index in range {
      let source = scratch.sources[index]
      let target = scratch.run + index << Int(policy.blockShift)
      guard var plain = source.baseAddress else { continue }
      var length = source.count
      var codec = Codec.raw
      if let compressor, tries & 1 << UInt64(index) != 0,
        let shrunk = compress(source, into: target, compressor)
      {
        plain = UnsafeRawPointer(target)
        length = shrunk
        codec = .zstd
      } else if length & (Format.pageSize - 1) != 0 {
        target.copyMemory(from: plain, byteCount: length)
        plain = UnsafeRawPointer(target)
      }
      if plain == UnsafeRawPointer(target) {
        target.zero(from: length, count: Format.pages(for: length) << 12 - length)
      }
      scratch.references[index] = Reference(
        page: 0, length: length, codec: codec, epoch: pages.limits.epoch)
      try cipher.seal(scratch.references + index, plain, into: target)
    }
  }

  /// Encodes the only block of a file.
  ///
  /// - Parameters:
  ///   - source: Its content.
  ///   - tailRoom: How many of the stored bytes the header may take.
  ///   - scratch: Gets the stored bytes, in its run.
  /// - Returns: How many bytes they are, and their codec.
  func encode(
    _ source: UnsafeRawBufferPointer, tailRoom: Int, _ scratch: Scratch
  ) -> (length: Int, codec: Codec) {
    let isTried = trial.shouldTry()
    let shrunk =
      isTried
      ? compress(source, into: scratch.run, tailRoom: tailRoom, scratch.compressor) : nil
    if isTried { trial.note(shrank: shrunk != nil) }
    if let shrunk { return (shrunk, .zstd) }
    scratch.run.buffer(source.count).copyMemory(from: source)
    return (source.count, .raw)
  }

  /// Compresses if it saves an eighth, and a page at least: less is not worth the time that every
  /// read of it takes.
  private func compress(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawPointer, tailRoom: Int = 0,
    _ compressor: Compressor
  ) -> Int? {
    let pageCount = Format.pages(for: source.count)
    let room = (pageCount - max(1, pageCount / 8)) << 12 + tailRoom
    guard room > 0 else { return nil }
    return compressor.compress(
      source, into: target.buffer(room), level: workspace.compressionLevel)
  }
}
