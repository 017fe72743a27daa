import Primitives

extension ContainerFile {
  /// Starts a container in an empty backing file. Nothing is written before the first commit.
  ///
  /// - Parameters:
  ///   - store: The empty backing file.
  ///   - keys: The vault's keys.
  ///   - parameters: What the container is to be.
  ///   - workspace: What the containers of a mount share.
  /// - Returns: An empty container with changes to commit.
  /// - Throws: `.keyMissing`.
  public static func create(
    store: any BlockStore, keys: ContainerKeys, parameters: ContainerParameters,
    workspace: Workspace
  ) throws(ContainerError) -> ContainerFile {
    guard keys.canVerify else { throw .keyMissing }
    return fresh(
      store: store, keys: keys, parameters: parameters, workspace: workspace, healed: false)
  }

  private static func fresh(
    store: any BlockStore, keys: ContainerKeys, parameters: ContainerParameters,
    workspace: Workspace, healed: Bool
  ) -> ContainerFile {
    var header = Header(
      policy: parameters.policy, suite: keys.suite, epoch: 1, fileID: .random(), commit: 0,
      session: parameters.session)
    header.bindings = parameters.bindings
    var history = History()
    history.needsReset = healed
    let context = Context(
      store: store, ring: KeyRing(keys: keys, fileID: header.fileID), session: parameters.session,
      workspace: workspace)
    return ContainerFile(header, history: history, isNew: true, healed: healed, context: context)
  }

  /// Opens a container: reads its header, and nothing else unless a torn commit is excused.
  ///
  /// - Parameters:
  ///   - store: The backing file.
  ///   - keys: The vault's keys.
  ///   - parameters: The session; policy and bindings count only where an excuse makes the file one
  ///     that was never committed.
  ///   - excuse: Whether a torn commit may be passed over.
  ///   - known: What an earlier object for the same file knew in this session; nil if there was
  ///     none, which costs a sync before the first change of a file that this session committed.
  ///   - workspace: What the containers of a mount share.
  /// - Returns: The container as of its last commit.
  /// - Throws: `.io`, `.damaged`, `.keyMissing`, `.crypto`.
  public static func open(
    store: any BlockStore, keys: ContainerKeys, parameters: ContainerParameters,
    excuse: TornExcuse, known: KnownCommits? = nil, workspace: Workspace
  ) throws(ContainerError) -> ContainerFile {
    var reader = SlotReader(store: store, keys: keys)
    try reader.read()
    guard
      case .header(let header, let slot, let other, let highest, let healed) =
        try reader.outcome(excuse), let ring = reader.ring
    else {
      return fresh(
        store: store, keys: keys, parameters: parameters, workspace: workspace, healed: true)
    }
    // Inode numbers are used again.
    let known = known?.fileID == header.fileID ? known : nil
    if let known, header.commit < known.last, !excuse.isExcused {
      throw .damaged(Damage(.rolledBack, page: UInt64(slot)))
    }
    var history = History(commit: header.commit, slot: slot, other: other, highest: highest)
    history.isAlone = header.isAlone && reader.slots[1 - slot].isAbsent
    history.isFirst = header.isAlone
    history.isOtherFirst = other != 0 && reader.slots[1 - slot].header?.isAlone == true
    // What earlier sessions wrote is on the medium: a session begins with everything synced.
    if header.session != parameters.session || known?.durable == header.commit {
      history.durable = header.commit
    } else {
      history.isDurabilityUnknown = known?.durable != 0 || !history.isAlone
    }
    let context = Context(
      store: store, ring: ring, session: parameters.session, workspace: workspace)
    return ContainerFile(header, history: history, isNew: false, healed: healed, context: context)
  }

  // MARK: Before the first write

  /// Makes sure of what every write relies on: which commit is durable, which pages are free.
  func prepareToWrite() throws(ContainerError) {
    if history.needsReset {
      // Pages from before could be taken for ones that a power cut left half written.
      try pages.truncate(toPages: 0)
      try pages.sync(withTimes: true)
      history.needsReset = false
    }
    if history.isDurabilityUnknown { try makeDurable() }
    if let list = unloadedList {
      try pages.measure()
      try loadFreeList(list)
      unloadedList = nil
    }
    try pages.advanceEpoch()
  }

  private func loadFreeList(_ unloaded: UnloadedList) throws(ContainerError) {
    var free = unloaded.free
    var held: [Extent] = []
    var chain: [Extent] = []
    func add(_ extents: [Extent], heldCommit: UInt64) {
      // Pages held for a commit that no slot has any more are free.
      if heldCommit != 0, heldCommit == history.other { held += extents } else { free += extents }
    }
    add(unloaded.held, heldCommit: unloaded.heldCommit)
    var next = unloaded.list
    while !next.isHole {
      // Each page names one before it was written, so a loop would need a forged tag; the bound
      // is for `compressed` containers read without a key.
      guard UInt64(chain.count) <= allocator.end else {
        throw .damaged(Damage(.malformed, page: next.page))
      }
      chain.append(next.extent)
      let list = try pages.readList(next)
      add(list.extents, heldCommit: list.heldCommit)
      next = list.next
    }
    let all = (free + held + chain).sorted { $0.start < $1.start }
    for (extent, following) in zip(all, all.dropFirst()) where extent.end > following.start {
      throw .damaged(Damage(.freeListOverlap, page: following.start))
    }
    allocator.load(free: free, held: held)
    listPages = chain
  }
}
