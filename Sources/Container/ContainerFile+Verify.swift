import Primitives

extension ContainerFile {
  /// Looks for damage in what the last commit refers to: nodes and free lists, and with `deep`
  /// every block. Changes wait until it is done. What `lostPages` says is as of then.
  ///
  /// - Parameters:
  ///   - deep: Whether blocks are read and decoded too.
  ///   - progress: Told how many more bytes were read.
  /// - Returns: Everything found.
  /// - Throws: `.io`, `.keyMissing`, `.crypto`.
  public func verify(
    deep: Bool, progress: (UInt64) -> Void = { _ in }
  ) throws(ContainerError) -> [Damage] {
    var lost = LostPages()
    let damages = try lock.withReadLock { () throws(ContainerError) -> [Damage] in
      if history.commit == 0 { return [] }
      var reader = SlotReader(store: pages.store, keys: pages.ring.keys)
      try reader.read()
      guard let header = reader.slots[history.slot].header else {
        return [Damage(.slotInvalid, page: UInt64(history.slot))]
      }
      let file = PageFile(store: pages.store, ring: pages.ring, limits: header.limits, seals: 0)
      var walker = TreeWalker(pages: file, header: header, reads: deep ? .content : .nodes)
      try walker.walk(progress)
      lost = LostPages(walker.unused, of: header)
      return walker.damages.map(\.damage)
    }
    lock.withWriteLock { self.lost = lost }
    return damages
  }
}
