/// Finds slots by backing identity: a hash table of slot numbers only, since the identities are in
/// the slots. Open addressing, linear probing, at most half full: 8 to 16 bytes an inode.
struct InodeIndex {
  /// Slot number + 1; 0 is vacant.
  private var buckets: [UInt32]
  private(set) var count = 0

  init() { buckets = Array(repeating: 0, count: 1024) }

  /// The slot that `matches` among those whose hash may be `hash`.
  func find(hash: UInt64, matches: (UInt32) -> Bool) -> UInt32? {
    var position = start(hash)
    while buckets[position] != 0 {
      let slot = buckets[position] - 1
      if matches(slot) { return slot }
      position = (position + 1) & (buckets.count - 1)
    }
    return nil
  }

  /// Adds a slot that is not in the table. `hashOf` gives the hash of any slot in it.
  mutating func insert(slot: UInt32, hash: UInt64, hashOf: (UInt32) -> UInt64) {
    if (count + 1) * 2 > buckets.count { grow(hashOf) }
    place(slot: slot, hash: hash)
    count += 1
  }

  /// Removes a slot, if it is there, and closes the gap so that probing needs no tombstones.
  mutating func remove(slot: UInt32, hash: UInt64, hashOf: (UInt32) -> UInt64) {
    let mask = buckets.count - 1
    var position = start(hash)
    while buckets[position] != slot + 1 {
      if buckets[position] == 0 { return }
      position = (position + 1) & mask
    }
    var gap = position
    var next = (gap + 1) & mask
    while buckets[next] != 0 {
      let home = start(hashOf(buckets[next] - 1))
      // The entry may move back to the gap unless its home lies cyclically after the gap.
      if (next &- home) & mask >= (next &- gap) & mask {
        buckets[gap] = buckets[next]
        gap = next
      }
      next = (next + 1) & mask
    }
    buckets[gap] = 0
    count -= 1
  }

  private func start(_ hash: UInt64) -> Int {
    Int(truncatingIfNeeded: hash) & (buckets.count - 1)
  }

  private mutating func place(slot: UInt32, hash: UInt64) {
    var position = start(hash)
    while buckets[position] != 0 { position = (position + 1) & (buckets.count - 1) }
    buckets[position] = slot + 1
  }

  private mutating func grow(_ hashOf: (UInt32) -> UInt64) {
    let old = buckets
    buckets = Array(repeating: 0, count: old.count * 2)
    for entry in old where entry != 0 { place(slot: entry - 1, hash: hashOf(entry - 1)) }
  }
}
