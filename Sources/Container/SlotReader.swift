import Primitives

/// Reads both header slots and decides which counts, docs/format.md §8.5.
struct SlotReader {
  /// What one slot holds.
  enum Slot {
    /// Zeros, or beyond the end of the file.
    case absent
    case invalid
    case valid(Header)

    var header: Header? { if case .valid(let header) = self { header } else { nil } }
    var isAbsent: Bool { if case .absent = self { true } else { false } }
  }

  /// What the slots mean.
  enum Outcome {
    /// A slot counts; `other` is the commit number in the other one, 0 if that does not count.
    case header(Header, slot: Int, other: UInt64, highest: UInt64, healed: Bool)
    /// The file was never committed.
    case neverCommitted
  }

  let store: any BlockStore
  let keys: ContainerKeys
  /// Which slot is which.
  private(set) var slots: [Slot] = []
  private(set) var ring: KeyRing?
  private var isEmpty = false

  init(store: any BlockStore, keys: ContainerKeys) {
    self.store = store
    self.keys = keys
  }

  /// Reads the slots.
  mutating func read() throws(ContainerError) {
    let count = Format.slotCount * Format.pageSize
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: Format.pageSize)
    defer { buffer.deallocate() }
    buffer.zero(from: 0, count: count)
    do {
      isEmpty = try store.read(at: 0, into: buffer.buffer(count)) == 0
    } catch {
      throw .io(error)
    }
    for index in 0..<Format.slotCount {
      slots.append(try slot(buffer + index * Format.pageSize))
    }
  }

  private mutating func slot(_ page: UnsafeMutableRawPointer) throws(ContainerError) -> Slot {
    if UnsafeRawPointer(page).isZero(count: Format.pageSize) { return .absent }
    guard var header = Header(clearPartOf: page), header.suite == keys.suite else {
      return .invalid
    }
    let ring =
      if let ring = self.ring, ring.fileID == header.fileID {
        ring
      } else {
        KeyRing(keys: keys, fileID: header.fileID)
      }
    if header.policy.isSecret && !keys.canVerify { throw .keyMissing }
    var cipher = Cipher(ring, isSecret: header.policy.isSecret)
    guard try cipher.openSlot(page, epoch: header.epoch),
      header.decodeBody(page + Format.bodyOffset)
    else { return .invalid }
    self.ring = ring
    return .valid(header)
  }

  /// Decides which slot counts.
  func outcome(_ excuse: TornExcuse) throws(ContainerError) -> Outcome {
    switch (slots[0].header, slots[1].header) {
    case (let first?, let second?):
      guard first.fileID == second.fileID, first.policy == second.policy,
        first.commit != second.commit
      else { throw .damaged(Damage(.slotsDisagree, page: 1)) }
      return first.commit > second.commit
        ? try newer(first, slot: 0, older: second, excuse)
        : try newer(second, slot: 1, older: first, excuse)
    case (let only?, nil):
      return try alone(only, slot: 0, excuse)
    case (nil, let only?):
      return try alone(only, slot: 1, excuse)
    case (nil, nil):
      // The second slot is written only once the first is durable.
      if excuse.isExcused, slots[1].isAbsent { return .neverCommitted }
      if slots[0].isAbsent && slots[1].isAbsent { throw .damaged(Damage(.empty, page: 0)) }
      throw .damaged(Damage(.notAContainer, page: slots[0].isAbsent ? 1 : 0))
    }
  }

  private func newer(
    _ header: Header, slot: Int, older: Header, _ excuse: TornExcuse
  ) throws(ContainerError) -> Outcome {
    let highest = header.commit
    // The older of two commits is durable, so it is whole.
    if excuse.covers(header), try condition(header, comparedWith: older) != .intact {
      return .header(older, slot: 1 - slot, other: 0, highest: highest, healed: true)
    }
    return .header(header, slot: slot, other: older.commit, highest: highest, healed: false)
  }

  private func alone(
    _ header: Header, slot: Int, _ excuse: TornExcuse
  ) throws(ContainerError) -> Outcome {
    let isExpected = header.isAlone && slots[1 - slot].isAbsent
    if !isExpected, !excuse.isExcused {
      let kind = slots[1 - slot].isAbsent ? Damage.Kind.slotMissing : .slotInvalid
      throw .damaged(Damage(kind, page: UInt64(1 - slot)))
    }
    // A commit beside which no other was begun need not have reached the medium.
    if isExpected, excuse.isExcused, try condition(header, comparedWith: nil) == .torn {
      return .neverCommitted
    }
    return .header(
      header, slot: slot, other: 0, highest: header.commit, healed: !isExpected)
  }

  /// What a power cut may have left of a commit.
  private enum Condition {
    case intact
    /// Pages were never written, or only in part.
    case torn
    /// Pages are wrong in a way that a first write cut short does not explain.
    case damaged
  }

  private func condition(
    _ header: Header, comparedWith older: Header?
  ) throws(ContainerError) -> Condition {
    guard let ring else { return .intact }
    let pages = PageFile(store: store, ring: ring, limits: header.limits, seals: 0)
    var walker = TreeWalker(
      pages: pages, header: header, older: older.map { OlderTree(pages: pages, header: $0) },
      reads: .blocks)
    try walker.walk { _ in }
    if walker.damages.isEmpty { return .intact }
    for damage in walker.damages where try isHalfWritten(damage, pages) { return .torn }
    return .damaged
  }

  /// Whether the damaged pages are missing or have a sector that was never written.
  private func isHalfWritten(
    _ damage: TreeWalker.Finding, _ pages: PageFile
  ) throws(ContainerError) -> Bool {
    let sector = 512
    let count = Int(damage.extent.count) << 12
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: Format.pageSize)
    defer { buffer.deallocate() }
    do throws(ContainerError) {
      try pages.readRaw(page: damage.extent.start, into: buffer.buffer(count))
    } catch .damaged {
      return true
    }
    return stride(from: 0, to: count, by: sector).contains {
      UnsafeRawPointer(buffer + $0).isZero(count: sector)
    }
  }
}
