import Primitives
import SystemPackage

/// What can still be read of a damaged container, whatever it takes.
public struct ContainerSalvage {
  private let header: Header
  private let pages: PageFile

  /// How the content is stored.
  public var policy: ContentPolicy { header.policy }
  /// The container's random name.
  public var fileID: FileID { header.fileID }
  /// Logical size in bytes.
  public var size: UInt64 { header.size }

  /// Blocks by what became of them.
  public struct Result: Sendable {
    /// Blocks that were copied.
    public var kept: UInt64 = 0
    /// Blocks that are holes in the copy although they held something.
    public var lost: UInt64 = 0
  }

  /// Finds the newest header that is valid, docs/format.md §8.5 notwithstanding; nil if none is.
  ///
  /// - Parameters:
  ///   - store: The backing file.
  ///   - keys: The vault's keys.
  /// - Throws: `.io`, `.keyMissing`, `.crypto`.
  public init?(store: any BlockStore, keys: ContainerKeys) throws(ContainerError) {
    var reader = SlotReader(store: store, keys: keys)
    try reader.read()
    guard let newest = reader.slots.compactMap(\.header).max(by: { $0.commit < $1.commit })
    else { return nil }
    header = newest
    pages = PageFile(
      store: store, ring: KeyRing(keys: keys, fileID: newest.fileID), limits: newest.limits,
      seals: 0)
  }

  /// Copies every block that authenticates; the others become holes.
  ///
  /// - Parameters:
  ///   - target: A new container; the caller commits it.
  ///   - progress: Told how many more bytes were read.
  /// - Returns: How many blocks were kept and lost.
  /// - Throws: What writing to the target gave, and `.io` of the damaged file that is not EIO.
  public func copy(
    into target: ContainerFile, progress: (UInt64) -> Void
  ) throws(ContainerError) -> Result {
    var result = Result()
    switch header.content {
    case .inline(let bytes):
      try write(bytes, to: target)
      result.kept = bytes.isEmpty ? 0 : 1
    case .packed(let reference, let tail):
      try copyBlock(reference, tail, 0, target, Scratch(), &result, progress)
    case .tree(let references):
      let scratch = Scratch()
      for (index, reference) in references.enumerated() {
        try copy(
          reference, level: header.depth, index: UInt64(index), target, scratch, &result, progress)
      }
    }
    try target.truncate(to: header.size)
    return result
  }

  private func write(_ bytes: [UInt8], to target: ContainerFile) throws(ContainerError) {
    let outcome = bytes.withUnsafeBytes { bytes -> ContainerError? in
      do throws(ContainerError) {
        try target.write(at: 0, from: bytes)
        return nil
      } catch {
        return error
      }
    }
    if let outcome { throw outcome }
  }

  private var blockCount: UInt64 {
    (header.size + UInt64(policy.blockSize) - 1) >> policy.blockShift
  }

  private func copy(
    _ reference: Reference, level: Int, index: UInt64, _ target: ContainerFile,
    _ scratch: Scratch, _ result: inout Result, _ progress: (UInt64) -> Void
  ) throws(ContainerError) {
    let coverage = Tree.coverage(level: level + 1)
    let first = index * coverage
    if reference.isHole || first >= blockCount { return }
    if level == 0 {
      return try copyBlock(reference, nil, index, target, scratch, &result, progress)
    }
    let page = UnsafeMutableRawPointer.allocate(byteCount: Format.pageSize, alignment: 64)
    defer { page.deallocate() }
    var copied = reference
    do throws(ContainerError) {
      try pages.readNode(&copied, into: page, level: level)
    } catch {
      try passOver(error)
      result.lost += min(coverage, blockCount - first)
      return
    }
    progress(UInt64(Format.pageSize))
    let references = page.assumingMemoryBound(to: Reference.self)
    for child in 0..<Format.nodeFanout {
      try copy(
        references[child], level: level - 1,
        index: index * UInt64(Format.nodeFanout) + UInt64(child), target, scratch, &result,
        progress)
    }
  }

  private func copyBlock(
    _ reference: Reference, _ tail: BlockTail?, _ index: UInt64, _ target: ContainerFile,
    _ scratch: Scratch, _ result: inout Result, _ progress: (UInt64) -> Void
  ) throws(ContainerError) {
    let block = UnsafeMutableRawBufferPointer.allocate(
      byteCount: policy.blockSize, alignment: Format.pageSize)
    defer { block.deallocate() }
    var cipher = pages.cipher()
    var copied = reference
    do throws(ContainerError) {
      try pages.decode(&copied, tail, into: block, scratch, &cipher)
    } catch {
      try passOver(error)
      result.lost += 1
      return
    }
    progress(UInt64(reference.pageCount) << 12)
    let offset = index << policy.blockShift
    let count = Int(min(UInt64(block.count), header.size - offset))
    try target.write(
      at: offset, from: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(block)[..<count]))
    result.kept += 1
  }

  /// Damage and bad sectors cost a block; anything else ends the copy.
  private func passOver(_ error: ContainerError) throws(ContainerError) {
    switch error {
    case .damaged, .io(.ioError): return
    default: throw error
    }
  }
}
