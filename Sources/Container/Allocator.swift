/// Which pages are free, which only the other slot's tree uses, and which this commit gave up:
/// docs/format.md §8.4 and §8.6. Guarded by the container's lock.
final class Allocator {
  /// How a header is written, which decides what becomes free.
  enum Target {
    /// Over the last commit, which no sync made durable.
    case same
    /// Over the commit before.
    case other
  }

  /// The free list as it is after a commit.
  struct Plan {
    var free: [Extent]
    var held: [Extent]
    var end: UInt64
  }

  /// Pages from here on are free; at least 2.
  private(set) var end: UInt64
  /// Pages that may be allocated.
  private(set) var free = ExtentSet()
  /// Pages that only the other slot's tree uses.
  private(set) var held: [Extent] = []
  /// Free pages that wait for the first sync. Until then a page that no sync covers is written at
  /// most once, so that what a power cut left of it is told from damage: it has zeros.
  private(set) var quarantine: [Extent] = []
  /// Whether no commit of this container is durable.
  private(set) var neverDurable: Bool
  /// Whether the other slot has no tree.
  private var otherIsEmpty: Bool
  /// Pages allocated after the other slot's commit, up to the last commit.
  private var young = PageSet()
  /// Pages allocated since the last commit.
  private var fresh = PageSet()
  private var freedFresh: [Extent] = []
  private var freedYoung: [Extent] = []
  private var freedOld: [Extent] = []

  /// Starts with the pages below `end` in use.
  init(end: UInt64, neverDurable: Bool, otherIsEmpty: Bool) {
    self.end = end
    self.neverDurable = neverDurable
    self.otherIsEmpty = otherIsEmpty
  }

  /// Takes over the free list of the last commit.
  func load(free pages: [Extent], held: [Extent]) {
    self.held = held
    if neverDurable { quarantine += pages } else { free.insert(pages) }
  }

  /// All pages below `end` that the working tree does not use.
  var idleExtents: [Extent] {
    free.all + held + quarantine + freedFresh + freedYoung + freedOld
  }

  /// Pages in use by the last commit's tree and what was written since, about.
  var usedPages: UInt64 {
    end - min(idleExtents.pageCount, end)
  }

  /// Pages that no tree uses once the other slot is replaced.
  var idlePages: UInt64 { free.pageCount + held.pageCount + freedFresh.pageCount }

  /// Pages that a commit over the other slot would free.
  var heldPages: UInt64 { held.pageCount }

  /// Takes `count` consecutive pages, or fewer if free pages are scattered; nil where the
  /// container has as many pages as the format allows.
  func allocate(atMost count: UInt64) -> Extent? {
    mergeFreed()
    return free.take(atMost: count).map(born) ?? grow(by: count)
  }

  /// Takes `count` consecutive free pages, if there are so many.
  func reuse(exactly count: UInt64) -> Extent? {
    mergeFreed()
    return free.take(exactly: count).map(born)
  }

  /// Takes `count` consecutive pages beyond all others.
  func grow(by count: UInt64) -> Extent? {
    guard end + count < Format.pageCountLimit else { return nil }
    let extent = Extent(start: end, count: count)
    end += count
    return born(extent)
  }

  /// Takes pages for a free list without changing how many free extents there are.
  func allocateForList(_ count: UInt64) -> Extent? {
    mergeFreed()
    return free.takeWithoutEmptying(count).map(born) ?? grow(by: count)
  }

  /// Gives up pages that the tree used.
  func release(_ extent: Extent) {
    if fresh.contains(extent.start) {
      giveBack(extent)
    } else if otherIsEmpty || young.contains(extent.start) {
      freedYoung.appendJoining(extent)
    } else {
      freedOld.appendJoining(extent)
    }
  }

  /// Gives back pages that were allocated since the last commit.
  func giveBack(_ extent: Extent) {
    fresh.remove(extent)
    if neverDurable {
      quarantine.appendJoining(extent)
    } else {
      freedFresh.appendJoining(extent)
    }
  }

  /// The free list that a header states.
  ///
  /// - Parameters:
  ///   - target: Where the header goes.
  ///   - lists: Pages of the last commit's free list, which the new one replaces.
  /// - Returns: What the header holds.
  func plan(_ target: Target, replacing lists: [Extent]) -> Plan {
    var listsYoung: [Extent] = []
    var listsOld: [Extent] = []
    for list in lists {
      if otherIsEmpty || young.contains(list.start) {
        listsYoung.append(list)
      } else {
        listsOld.append(list)
      }
    }
    let idle = free.all + freedFresh + quarantine
    var plan =
      switch target {
      case .same:
        Plan(free: idle + freedYoung + listsYoung, held: held + freedOld + listsOld, end: end)
      case .other:
        Plan(free: idle + held, held: freedYoung + freedOld + listsYoung + listsOld, end: end)
      }
    plan.free = ExtentSet.merged(plan.free)
    plan.held = ExtentSet.merged(plan.held)
    if !neverDurable, let last = plan.free.last, last.end == end {
      plan.free.removeLast()
      plan.end = last.start
    }
    return plan
  }

  /// Makes a plan true, after its header was written.
  func commit(_ plan: Plan, _ target: Target, replacing lists: [Extent]) {
    switch target {
    case .same:
      young.formUnion(fresh)
      for extent in freedYoung + lists { young.remove(extent) }
    case .other:
      young = fresh
      otherIsEmpty = false
    }
    fresh.removeAll()
    if neverDurable { quarantine = plan.free } else { free = ExtentSet(plan.free) }
    held = plan.held
    end = plan.end
    freedFresh = []
    freedYoung = []
    freedOld = []
  }

  /// Notes that a commit is durable: pages may be written more than once from now on.
  func becomeDurable() {
    guard neverDurable else { return }
    neverDurable = false
    freedFresh += quarantine
    quarantine = []
  }

  /// Pages allocated since the other slot's commit: what may be lost if no sync succeeds.
  var unsynced: [Extent] {
    otherIsEmpty ? [Extent(start: UInt64(Format.slotCount), count: end - 2)] : young.extents
  }

  private func born(_ extent: Extent) -> Extent {
    fresh.insert(extent)
    return extent
  }

  /// Makes pages that were given up again since the last commit available. Many are merged at
  /// once, as each merge goes through the whole set.
  private func mergeFreed() {
    if freedFresh.count > 64 || (!freedFresh.isEmpty && free.pageCount == 0) {
      free.insert(freedFresh)
      freedFresh = []
    }
  }
}
