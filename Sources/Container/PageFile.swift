import Primitives
import SystemPackage

/// The backing file as pages that are verified when read and sealed when written.
final class PageFile {
  let store: any BlockStore
  let ring: KeyRing
  let policy: ContentPolicy
  /// What references may say; changes under the container's write lock.
  var limits: ReferenceLimits
  /// Seals made under the current epoch.
  var seals: UInt64
  /// Seals after which the epoch moves on.
  var sealsPerEpoch = Format.sealsPerEpoch
  /// Pages the backing file has, as far as is known.
  var storedPages: UInt64 = 0

  init(store: any BlockStore, ring: KeyRing, limits: ReferenceLimits, seals: UInt64) {
    self.store = store
    self.ring = ring
    self.policy = limits.policy
    self.limits = limits
    self.seals = seals
  }

  /// Contexts for a request.
  func cipher() -> Cipher { Cipher(ring, isSecret: policy.isSecret) }

  /// Moves to the next key before the current one has sealed too much.
  func advanceEpoch() throws(ContainerError) {
    guard seals >= sealsPerEpoch else { return }
    guard limits.epoch < UInt16.max else { throw .tooLarge }
    limits.epoch += 1
    seals = 0
  }

  // MARK: Reading

  /// Reads all pages of a reference and verifies them.
  func read(
    _ reference: UnsafePointer<Reference>, into buffer: UnsafeMutableRawPointer,
    _ cipher: inout Cipher
  ) throws(ContainerError) {
    let count = reference.pointee.pageCount * Format.pageSize
    try readRaw(page: reference.pointee.page, into: buffer.buffer(count))
    try cipher.open(reference, buffer)
  }

  /// Reads pages as they are.
  func readRaw(page: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(ContainerError) {
    let done: Int
    do {
      done = try store.read(at: page << 12, into: buffer)
    } catch {
      throw .io(error)
    }
    if done < buffer.count {
      throw .damaged(Damage(.missingPages, page: page + UInt64(done / Format.pageSize)))
    }
  }

  /// Reads a block and undoes its codec.
  ///
  /// - Parameters:
  ///   - reference: The block's reference; a hole if the tail is all of it.
  ///   - tail: What the header holds of the block.
  ///   - target: Gets the first bytes of the block, zeros where nothing is stored.
  ///   - scratch: Its `run` is used, and its `block` where the target is smaller than a block.
  ///   - cipher: Contexts.
  /// - Throws: `.damaged`, `.io`, `.crypto`.
  func decode(
    _ reference: UnsafePointer<Reference>, _ tail: BlockTail? = nil,
    into target: UnsafeMutableRawBufferPointer, _ scratch: Scratch, _ cipher: inout Cipher
  ) throws(ContainerError) {
    guard let start = target.baseAddress else { return }
    var length = reference.pointee.length
    var codec = reference.pointee.codec
    if tail == nil, codec == Codec.raw.rawValue, length == target.count,
      length & (Format.pageSize - 1) == 0
    {
      return try read(reference, into: start, &cipher)
    }
    if length > 0 { try read(reference, into: scratch.run, &cipher) }
    if let tail {
      tail.bytes.withUnsafeBytes { (scratch.run + length).buffer($0.count).copyMemory(from: $0) }
      length += tail.bytes.count
      codec = tail.codec.rawValue
    }
    if codec == Codec.raw.rawValue {
      start.copyMemory(from: scratch.run, byteCount: min(length, target.count))
      start.zero(from: min(length, target.count), count: target.count - min(length, target.count))
      return
    }
    let isWhole = target.count >= policy.blockSize
    let output = isWhole ? target : scratch.block.buffer(policy.blockSize)
    let count: Int
    do {
      count = try scratch.compressor.decompress(
        UnsafeRawBufferPointer(scratch.run.buffer(length)), into: output)
    } catch {
      if error == .outOfMemory { throw .crypto(.outOfMemory) }
      throw .damaged(Damage(.undecodable, page: reference.pointee.page))
    }
    if !isWhole { start.copyMemory(from: scratch.block, byteCount: min(count, target.count)) }
    start.zero(from: min(count, target.count), count: target.count - min(count, target.count))
  }

  /// Reads a node and checks its references.
  func readNode(
    _ reference: UnsafePointer<Reference>, into page: UnsafeMutableRawPointer, level: Int
  ) throws(ContainerError) {
    var cipher = cipher()
    try read(reference, into: page, &cipher)
    let references = page.assumingMemoryBound(to: Reference.self)
    let used = Format.nodeFanout * Format.referenceCount
    var isValid = UnsafeRawPointer(page + used).isZero(count: Format.pageSize - used)
    for index in 0..<Format.nodeFanout where isValid {
      isValid = references[index].isValid(limits, inner: level > 1)
    }
    if !isValid { throw .damaged(Damage(.malformed, page: reference.pointee.page)) }
  }

  /// Reads a free-list page.
  func readList(_ reference: Reference) throws(ContainerError) -> FreeList.Page {
    var cipher = cipher()
    let page = UnsafeMutableRawPointer.allocate(byteCount: Format.pageSize, alignment: 8)
    defer { page.deallocate() }
    var copy = reference
    try read(&copy, into: page, &cipher)
    guard let list = FreeList.decodePage(page, limits: limits) else {
      throw .damaged(Damage(.malformed, page: reference.page))
    }
    return list
  }

  // MARK: Writing

  /// Writes sealed pages.
  func write(page: UInt64, from buffer: UnsafeRawBufferPointer) throws(ContainerError) {
    try put(page: page, from: buffer)
    storedPages = max(storedPages, page + UInt64(buffer.count / Format.pageSize))
  }

  /// Writes sealed pages to extents, one after another, on any thread: without taking note of the backing file's length.
  func put(_ pages: UnsafeMutableRawPointer, to extents: [Extent]) throws(ContainerError) {
    var start = pages
    for extent in extents {
      let count = Int(extent.count) << 12
      try put(page: extent.start, from: UnsafeRawBufferPointer(start.buffer(count)))
      start += count
    }
  }

  private func put(page: UInt64, from buffer: UnsafeRawBufferPointer) throws(ContainerError) {
    do {
      try store.write(at: page << 12, from: buffer)
    } catch {
      throw .io(error)
    }
  }

  /// Takes note of pages that are put.
  func expect(_ extents: [Extent]) {
    for extent in extents { storedPages = max(storedPages, extent.end) }
  }

  /// Learns the length of the backing file.
  func measure() throws(ContainerError) {
    do {
      storedPages = (try store.length() + UInt64(Format.pageSize) - 1) >> 12
    } catch {
      throw .io(error)
    }
  }

  /// Cuts the backing file.
  func truncate(toPages count: UInt64) throws(ContainerError) {
    do {
      try store.truncate(to: count << 12)
    } catch {
      throw .io(error)
    }
    storedPages = count
  }

  /// Waits until everything written is on the medium, with the change time if asked for.
  func sync(withTimes: Bool) throws(ContainerError) {
    do {
      try store.sync(withTimes: withTimes)
    } catch {
      throw .io(error)
    }
  }
}
