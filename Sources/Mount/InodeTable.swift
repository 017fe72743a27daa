import Synchronization
import Vault

/// Every inode the kernel knows, by nodeid and by backing identity, with its lookup count.
///
/// Nodeids are slot numbers joined with the slot's generation, so a stale one finds nothing instead
/// of somebody else. An entry costs about 200 bytes with its name and holds no descriptor.
final class InodeTable: Sendable {
  private struct Slot {
    var inode: Inode?
    /// How often the kernel was told of it and has not forgotten yet.
    var lookups: UInt64
    var generation: UInt32
    /// False once the backing object is gone: its inode number may then come back as another.
    var isIndexed: Bool
  }

  private struct Contents {
    var slots: [Slot] = []
    var vacant: [UInt32] = []
    var index = InodeIndex()

    func hash(_ slot: UInt32) -> UInt64 { slots[Int(slot)].inode?.identity.mixed ?? 0 }

    func slot(_ nodeid: UInt64) -> Int? {
      let low = UInt32(truncatingIfNeeded: nodeid)
      guard low > 0, low <= UInt32(slots.count) else { return nil }
      let slot = Int(low - 1)
      return slots[slot].generation == UInt32(nodeid >> 32) ? slot : nil
    }

    func find(_ identity: BackingIdentity) -> UInt32? {
      index.find(hash: identity.mixed) { slots[Int($0)].inode?.identity == identity }
    }

    mutating func index(_ slot: Int) {
      slots[slot].isIndexed = true
      index.insert(slot: UInt32(slot), hash: hash(UInt32(slot))) { [slots] in
        slots[Int($0)].inode?.identity.mixed ?? 0
      }
    }

    mutating func unindex(_ slot: Int) {
      guard slots[slot].isIndexed else { return }
      slots[slot].isIndexed = false
      let hash = hash(UInt32(slot))
      index.remove(slot: UInt32(slot), hash: hash) { [slots] in
        slots[Int($0)].inode?.identity.mixed ?? 0
      }
    }

    /// Adds an inode that was looked up once.
    mutating func addCounted(
      _ identity: BackingIdentity, mode: InodeMode, link: Inode.Link?, isIndexed: Bool = true
    ) -> Inode {
      let inode = add(identity, mode: mode, link: link, isIndexed: isIndexed)
      slots[Int(UInt32(truncatingIfNeeded: inode.nodeid) - 1)].lookups = 1
      return inode
    }

    mutating func add(
      _ identity: BackingIdentity, mode: InodeMode, link: Inode.Link?, isIndexed: Bool = true
    ) -> Inode {
      let slot: UInt32
      if let reused = vacant.popLast() {
        slot = reused
        slots[Int(slot)].generation &+= 1
      } else {
        slot = UInt32(slots.count)
        slots.append(Slot(inode: nil, lookups: 0, generation: 0, isIndexed: false))
      }
      let nodeid = UInt64(slots[Int(slot)].generation) << 32 | UInt64(slot + 1)
      let inode = Inode(nodeid: nodeid, identity: identity, mode: mode, link: link)
      slots[Int(slot)].inode = inode
      slots[Int(slot)].isIndexed = false
      if isIndexed { index(Int(slot)) }
      return inode
    }
  }

  /// The root of the mount, nodeid 1; never forgotten.
  let root: Inode
  private let contents: Mutex<Contents>

  init(root identity: BackingIdentity) {
    var contents = Contents()
    root = contents.add(identity, mode: .directory, link: nil)
    contents.slots[0].lookups = 1
    self.contents = Mutex(contents)
  }

  /// Inodes known, the root included.
  var count: Int { contents.withLock { $0.slots.count - $0.vacant.count } }

  /// The inode of a nodeid the kernel sent; nil for one it has been told to forget.
  func inode(_ nodeid: UInt64) -> Inode? {
    contents.withLock { contents in
      contents.slot(nodeid).flatMap { contents.slots[$0].inode }
    }
  }

  /// The inode of a backing object, if the kernel knows it.
  func find(_ identity: BackingIdentity) -> Inode? {
    contents.withLock { contents in
      contents.find(identity).flatMap { contents.slots[Int($0)].inode }
    }
  }

  /// Finds or makes the inode of a backing object seen under `link`, if it has a name, and counts one
  /// lookup.
  ///
  /// If the object has another mode than it had (it was converted in place by someone else), the old
  /// inode stays what it was and a new one is made.
  func remember(_ identity: BackingIdentity, mode: InodeMode, link: Inode.Link?) -> Inode {
    let (inode, isNew) = meet(identity, mode: mode, link: link)
    if let link, !isNew { inode.add(link) }
    return inode
  }

  /// As `remember`, but an inode that was known keeps the names it had.
  func meet(
    _ identity: BackingIdentity, mode: InodeMode, link: Inode.Link?
  ) -> (inode: Inode, isNew: Bool) {
    contents.withLock { contents in
      if let slot = contents.find(identity), let known = contents.slots[Int(slot)].inode {
        if known.mode == mode {
          contents.slots[Int(slot)].lookups += 1
          return (known, false)
        }
        contents.unindex(Int(slot))
      }
      return (contents.addCounted(identity, mode: mode, link: link), true)
    }
  }

  /// Takes back a lookup under a name that the backing object does not go by; the name gets an inode of
  /// its own, that no other name leads to.
  func setApart(_ inode: Inode, isNew: Bool, link: Inode.Link) -> Inode {
    if isNew {
      detach(inode)
      return inode
    }
    let apart = contents.withLock {
      $0.addCounted(inode.identity, mode: inode.mode, link: link, isIndexed: false)
    }
    forget(inode.nodeid, count: 1)
    return apart
  }

  /// Counts one lookup more, for a holder other than the kernel; ``forget(_:count:)`` takes it back.
  func retain(_ inode: Inode) {
    contents.withLock { contents in
      guard let slot = contents.slot(inode.nodeid) else { return }
      contents.slots[slot].lookups += 1
    }
  }

  /// Takes back `count` lookups; the inode goes with the last one.
  func forget(_ nodeid: UInt64, count: UInt64) {
    // The inode is released after the lock, since that may release its directories too.
    let released: Inode? = contents.withLock { contents in
      guard nodeid != 1, let slot = contents.slot(nodeid), let inode = contents.slots[slot].inode
      else { return nil }
      let left = contents.slots[slot].lookups
      contents.slots[slot].lookups = left - min(left, count)
      guard contents.slots[slot].lookups == 0 else { return nil }
      contents.unindex(slot)
      contents.slots[slot].inode = nil
      contents.vacant.append(UInt32(slot))
      return inode
    }
    withExtendedLifetime(released) {}
  }

  /// Forgets which backing object an inode stands for, once that has no name left.
  func detach(_ inode: Inode) {
    contents.withLock { contents in
      guard let slot = contents.slot(inode.nodeid) else { return }
      contents.unindex(slot)
    }
  }

  /// Lets the nodeid of `inode` stand for another backing object under the name it has now, with the inode
  /// number it had.
  func remake(_ inode: Inode, as identity: BackingIdentity) {
    let links = inode.links
    let released: Inode? = contents.withLock { contents in
      guard let slot = contents.slot(inode.nodeid) else { return nil }
      contents.unindex(slot)
      let released = contents.slots[slot].inode
      let remade = Inode(
        nodeid: inode.nodeid, identity: identity, mode: inode.mode, link: links.first,
        shownNumber: inode.shownNumber ?? inode.identity.inode)
      contents.slots[slot].inode = remade
      contents.index(slot)
      return released
    }
    withExtendedLifetime(released) {}
  }

  /// Every inode that is open now.
  func openInodes() -> [Inode] {
    contents.withLock { $0.slots.compactMap(\.inode) }.filter { $0.file != nil }
  }
}
