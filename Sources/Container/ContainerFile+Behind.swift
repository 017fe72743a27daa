import Primitives

/// Sealed blocks of a write that was answered already, on their way to the backing file.
struct WriteBehind {
  /// Number of the first block.
  let first: UInt64
  /// Holds the sealed pages and their references.
  let scratch: Scratch
  let blocks: Int
  let extents: [Extent]
  let task: BackgroundTask<ContainerError>

  /// Waits for it; may be called again.
  ///
  /// - Returns: Whether everything was written.
  var isWritten: Bool { (try? task.finish()) != nil }
}

/// The last pages of a write may be written while its caller already prepares the next: one run for each container, and
/// a few for a mount. Whatever needs those pages waits for them first.
extension ContainerFile {
  /// Writes sealed pages while the caller goes on, where that is wanted and pays.
  ///
  /// - Parameters:
  ///   - run: Sealed; its memory is given back once it is settled.
  ///   - first: Number of the first block.
  /// - Returns: false if it is left to the caller.
  /// - Throws: `.tooLarge`, what finding the references throws; nothing has changed then.
  func leaveBehind(_ run: Run, first: UInt64) throws(ContainerError) -> Bool {
    // What is compressed takes longer to prepare than to write, and could not be taken back so easily.
    guard !policy.isCompressed, !hasFailedBehind, workspace.crew.hasHelpers,
      workspace.takeBehind()
    else { return false }
    let extents: [Extent]
    do throws(ContainerError) {
      extents = try reserve(run)
    } catch {
      workspace.giveBehind()
      throw error
    }
    settle(run)
    pages.expect(extents)
    let (pages, scratch) = (pages, run.scratch)
    let task = workspace.crew.begin(parts: 1, wakesForOne: true) { _ throws(ContainerError) in
      try pages.put(scratch.run, to: extents)
    }
    behind = WriteBehind(
      first: first, scratch: scratch, blocks: run.blocks.count, extents: extents, task: task)
    return true
  }

  /// Waits for what was left behind. Called with the lock held for writing, before anything reads pages, gives up some,
  /// or commits.
  ///
  /// What could not be written waits in the buffer afterwards, as if it had been buffered from the start: whoever
  /// writes it next hears of the failure.
  func settleBehind() throws(ContainerError) {
    guard let run = behind else { return }
    if !run.isWritten {
      hasFailedBehind = true
      try takeBack(run)
    }
    behind = nil
    workspace.give(run.scratch)
    workspace.giveBehind()
  }

  private func takeBack(_ run: WriteBehind) throws(ContainerError) {
    // First all that may fail.
    var slots: [UnsafeMutablePointer<Reference>] = []
    for index in 0..<run.blocks {
      slots.append(try tree.mutableSpan(run.first + UInt64(index)).references)
    }
    do throws(ContainerError) {
      try pages.measure()
      var cipher = pages.cipher()
      for index in 0..<run.blocks {
        let entry = buffer.add(run.first + UInt64(index), capacity: policy.blockSize)
        let sealed = run.scratch.run + index << Int(policy.blockShift)
        entry.memory.copyMemory(from: sealed, byteCount: policy.blockSize)
        try cipher.open(run.scratch.references + index, entry.memory)
      }
    } catch {
      buffer.remove(run.first..<run.first + UInt64(run.blocks))
      throw error
    }
    for slot in slots { slot.pointee = .hole }
    for extent in run.extents { allocator.giveBack(extent) }
    cache.invalidate()
  }
}
