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
    /// What the header is to state.
    var free: [Extent]
    /// What the header is to state.
    var held: [Extent]
    var end: UInt64
    /// Where only a part is stated: all that becomes free, and all that is held.
    var unstated: (freed: [Extent], held: [Extent])?
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
  /// Pages in quarantine.
  private(set) var quarantinedPages: UInt64 = 0
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
    if neverDurable {
      for extent in pages { addFree(extent) }
    } else {
      free.insert(pages)
    }
  }

  /// Takes over pages that the last commit neither uses nor states as free. The other slot's tree may use them.
  func reclaim(_ extents: [Extent]) {
    if otherIsEmpty {
      for extent in extents { addFree(extent) }
    } else {
      held += extents
    }
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
    addFree(extent)
  }

  private func addFree(_ extent: Extent) {
    if neverDurable {
      quarantine.appendJoining(extent)
      quarantinedPages += extent.count
    } else {
      freedFresh.appendJoining(extent)
    }
  }

  /// The free list that a header states.
  ///
  /// - Parameters:
  ///   - target: Where the header goes.
  ///   - lists: Pages of the last commit's free list, which the new one replaces.
  ///   - room: If not nil, the header states no more than so many extents and forgets the others
  ///     on disk, which is allowed; a later one states them all.
  /// - Returns: What the header holds.
  func plan(_ target: Target, replacing lists: [Extent], room: Int? = nil) -> Plan {
    var listsYoung: [Extent] = []
    var listsOld: [Extent] = []
    for list in lists {
      if otherIsEmpty || young.contains(list.start) {
        listsYoung.append(list)
      } else {
        listsOld.append(list)
      }
    }
    let (freed, kept) =
      switch target {
      case .same: (freedYoung + listsYoung, held + freedOld + listsOld)
      case .other: (held, freedYoung + freedOld + listsYoung + listsOld)
      }
    let count = free.extentLimit + freedFresh.count + quarantine.count + freed.count + kept.count
    if let room, count > room {
      let heldPart = kept.prefix(room / 2)
      return Plan(
        free: free.some(room - heldPart.count), held: Array(heldPart), end: end,
        unstated: (freed, kept))
    }
    var plan = Plan(free: free.all + freedFresh + quarantine + freed, held: kept, end: end)
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
    if let (freed, kept) = plan.unstated {
      for extent in freed { addFree(extent) }
      held = kept
    } else {
      free = ExtentSet(neverDurable ? [] : plan.free)
      quarantine = []
      quarantinedPages = 0
      freedFresh = []
      if neverDurable { for extent in plan.free { addFree(extent) } }
      held = plan.held
      end = plan.end
    }
    freedYoung = []
    freedOld = []
  }

  /// Notes that a commit is durable: pages may be written more than once from now on.
  func becomeDurable() {
    guard neverDurable else { return }
    neverDurable = false
    freedFresh += quarantine
    quarantine = []
    quarantinedPages = 0
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
    if freedFresh.count > max(64, free.extentLimit / 4)
      || (!freedFresh.isEmpty && free.pageCount == 0)
    {
      free.insert(freedFresh)
      freedFresh = []
    }
  }
}
