import Primitives
import Synchronization

/// The keys of one container, by epoch, with idle AEAD contexts for each.
final class KeyRing: Sendable {
  /// A key and the contexts that are set up with it.
  private final class EpochKey: Sendable {
    let epoch: UInt16
    let key: SecretBytes
    let idle = Pool<AEAD>()

    init(epoch: UInt16, key: SecretBytes) {
      self.epoch = epoch
      self.key = key
    }
  }

  let keys: ContainerKeys
  let fileID: FileID
  private let epochs = Mutex<[EpochKey]>([])

  init(keys: ContainerKeys, fileID: FileID) {
    self.keys = keys
    self.fileID = fileID
  }

  /// A context for an epoch, for the caller alone.
  fileprivate func take(_ epoch: UInt16) throws(ContainerError) -> AEAD {
    let entry = try entry(of: epoch)
    if let context = entry.idle.take() { return context }
    do {
      return try AEAD(suite: keys.suite, key: entry.key)
    } catch {
      throw .crypto(error)
    }
  }

  fileprivate func give(_ context: AEAD, _ epoch: UInt16) {
    epochs.withLock { $0.first { $0.epoch == epoch } }?.idle.give(context)
  }

  private func entry(of epoch: UInt16) throws(ContainerError) -> EpochKey {
    if let entry = epochs.withLock({ $0.first { $0.epoch == epoch } }) { return entry }
    let made = EpochKey(epoch: epoch, key: try keys.key(of: fileID, epoch: epoch))
    return epochs.withLock { epochs in
      if let entry = epochs.first(where: { $0.epoch == epoch }) { return entry }
      epochs.append(made)
      return made
    }
  }
}

/// A context lent from a key ring for the length of a request.
struct Cipher: ~Copyable {
  private let ring: KeyRing
  private let isSecret: Bool
  private var epoch: UInt16 = 0
  private var context: AEAD?

  /// Lends nothing yet.
  init(_ ring: KeyRing, isSecret: Bool) {
    self.ring = ring
    self.isSecret = isSecret
  }

  deinit {
    if let context { ring.give(context, epoch) }
  }

  /// Verifies pages against their reference, and decrypts them in place if they are secret.
  ///
  /// - Parameters:
  ///   - reference: The reference, in memory.
  ///   - pages: All its pages; wiped if they do not verify.
  /// - Throws: `.damaged` if they do not verify, `.crypto`.
  mutating func open(
    _ reference: UnsafePointer<Reference>, _ pages: UnsafeMutableRawPointer
  ) throws(ContainerError) {
    if !isSecret && !ring.keys.canVerify { return }
    let count = reference.pointee.pageCount * Format.pageSize
    let context = try context(for: reference.pointee.epoch)
    let raw = UnsafeRawPointer(reference)
    let bytes = UnsafeRawBufferPointer(start: pages, count: count)
    let none = UnsafeRawBufferPointer(start: nil, count: 0)
    do {
      try context.open(
        nonce: raw + Reference.nonceOffset, associatedData: isSecret ? none : bytes,
        cipher: isSecret ? bytes : none, into: pages, tag: raw + Reference.tagOffset)
    } catch {
      pages.zero(from: 0, count: count)
      guard error == .authenticationFailed else { throw .crypto(error) }
      throw .damaged(Damage(.wrongTag, page: reference.pointee.page))
    }
  }

  /// Seals pages and puts nonce and tag into the reference.
  ///
  /// - Parameters:
  ///   - reference: Its length and epoch are set; gets a random nonce and the tag.
  ///   - plain: All its pages.
  ///   - pages: Where the sealed pages go; may be `plain`.
  /// - Throws: `.crypto`.
  mutating func seal(
    _ reference: UnsafeMutablePointer<Reference>, _ plain: UnsafeRawPointer,
    into pages: UnsafeMutableRawPointer
  ) throws(ContainerError) {
    let context = try context(for: reference.pointee.epoch)
    let count = reference.pointee.pageCount * Format.pageSize
    let raw = UnsafeMutableRawPointer(reference)
    Random.fill((raw + Reference.nonceOffset).buffer(AEAD.nonceCount))
    let bytes = UnsafeRawBufferPointer(start: plain, count: count)
    let none = UnsafeRawBufferPointer(start: nil, count: 0)
    context.seal(
      nonce: raw + Reference.nonceOffset, associatedData: isSecret ? none : bytes,
      plain: isSecret ? bytes : none, into: pages, tag: raw + Reference.tagOffset)
    if !isSecret, UnsafeRawPointer(pages) != plain {
      pages.copyMemory(from: plain, byteCount: count)
    }
  }

  /// Verifies a header slot and decrypts its body, §8.1.
  mutating func openSlot(
    _ slot: UnsafeMutableRawPointer, epoch: UInt16
  ) throws(ContainerError) -> Bool {
    if !isSecret && !ring.keys.canVerify { return true }
    let context = try context(for: epoch)
    let failure = withSlotData(slot) { data, sealed -> CryptoError? in
      do throws(CryptoError) {
        try context.open(
          nonce: slot + Format.slotNonceOffset, associatedData: data, cipher: sealed,
          into: slot + Format.bodyOffset, tag: slot + Format.slotTagOffset)
        return nil
      } catch {
        return error
      }
    }
    guard let failure else { return true }
    guard failure == .authenticationFailed else { throw .crypto(failure) }
    return false
  }

  /// Seals a header slot in place, §8.1.
  mutating func sealSlot(_ slot: UnsafeMutableRawPointer, epoch: UInt16) throws(ContainerError) {
    let context = try context(for: epoch)
    Random.fill((slot + Format.slotNonceOffset).buffer(AEAD.nonceCount))
    withSlotData(slot) { data, plain in
      context.seal(
        nonce: slot + Format.slotNonceOffset, associatedData: data, plain: plain,
        into: slot + Format.bodyOffset, tag: slot + Format.slotTagOffset)
    }
  }

  /// Calls `body` with a slot's associated data and the bytes that are sealed.
  private func withSlotData<R>(
    _ slot: UnsafeMutableRawPointer,
    _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> R
  ) -> R {
    let clear = UnsafeRawBufferPointer(start: slot, count: Format.clearCount)
    let content = UnsafeRawBufferPointer(start: slot + Format.bodyOffset, count: Format.bodyCount)
    if isSecret { return body(clear, content) }
    let count = Format.clearCount + Format.bodyCount
    return withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) { joined in
      joined.copyMemory(from: clear)
      UnsafeMutableRawBufferPointer(rebasing: joined[Format.clearCount...])
        .copyMemory(from: content)
      return body(UnsafeRawBufferPointer(joined), UnsafeRawBufferPointer(start: nil, count: 0))
    }
  }

  private mutating func context(for wanted: UInt16) throws(ContainerError) -> AEAD {
    if let context {
      if wanted == epoch { return context }
      ring.give(context, epoch)
      self.context = nil
    }
    let taken = try ring.take(wanted)
    context = taken
    epoch = wanted
    return taken
  }
}
