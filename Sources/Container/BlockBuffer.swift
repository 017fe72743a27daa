/// Blocks in memory that are not, or not as they are, in the tree. Guarded by the container's lock.
final class BlockBuffer {
  /// One block's plain content.
  struct Entry {
    let memory: UnsafeMutableRawPointer
    /// Bytes of memory; those of the block beyond are zeros.
    let capacity: Int
    /// Whether the budget counts it. The content of an inline file stays here after its commit
    /// and is not counted.
    var isCounted: Bool
  }

  private var entries: [UInt64: Entry] = [:]
  private let budget: DirtyBudget

  init(budget: DirtyBudget) {
    self.budget = budget
  }

  deinit { removeAll() }

  var isEmpty: Bool { entries.isEmpty }

  /// Numbers of the blocks, ascending.
  var blocks: [UInt64] { entries.keys.sorted() }

  subscript(block: UInt64) -> Entry? { entries[block] }

  /// Adds a block whose content the caller fills in.
  func add(_ block: UInt64, capacity: Int) -> Entry {
    let entry = Entry(
      memory: .allocate(byteCount: capacity, alignment: 64), capacity: capacity, isCounted: true)
    budget.take(capacity)
    entries[block] = entry
    return entry
  }

  /// Makes an entry hold `capacity` bytes; what is added is zero.
  func grow(_ block: UInt64, capacity: Int) -> Entry? {
    guard let old = entries[block], old.capacity < capacity else { return entries[block] }
    let memory = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 64)
    memory.copyMemory(from: old.memory, byteCount: old.capacity)
    memory.zero(from: old.capacity, count: capacity - old.capacity)
    remove(block)
    budget.take(capacity)
    let entry = Entry(memory: memory, capacity: capacity, isCounted: true)
    entries[block] = entry
    return entry
  }

  func remove(_ block: UInt64) {
    guard let entry = entries.removeValue(forKey: block) else { return }
    if entry.isCounted { budget.giveBack(entry.capacity) }
    entry.memory.deallocate()
  }

  /// Drops blocks from a number on, up to and without another.
  func remove(_ range: Range<UInt64>) {
    for block in entries.keys where range.contains(block) { remove(block) }
  }

  func removeAll() {
    for block in Array(entries.keys) { remove(block) }
  }

  /// Keeps the committed content of an inline file: in a page, not counted.
  func settle(_ block: UInt64) {
    guard let entry = entries[block] else { return }
    if entry.capacity > Format.pageSize {
      let memory = UnsafeMutableRawPointer.allocate(byteCount: Format.pageSize, alignment: 64)
      memory.copyMemory(from: entry.memory, byteCount: Format.pageSize)
      remove(block)
      entries[block] = Entry(memory: memory, capacity: Format.pageSize, isCounted: false)
    } else {
      setCounted(block, false)
    }
  }

  /// Says whether the budget is to count a block.
  func setCounted(_ block: UInt64, _ isCounted: Bool) {
    guard let entry = entries[block], entry.isCounted != isCounted else { return }
    if isCounted { budget.take(entry.capacity) } else { budget.giveBack(entry.capacity) }
    entries[block]?.isCounted = isCounted
  }

  /// Copies a part of a block out.
  static func copy(
    _ entry: Entry, from offset: Int, into target: UnsafeMutableRawPointer, count: Int
  ) {
    let stored = min(max(entry.capacity - offset, 0), count)
    if stored > 0 { target.copyMemory(from: entry.memory + offset, byteCount: stored) }
    target.zero(from: stored, count: count - stored)
  }
}
