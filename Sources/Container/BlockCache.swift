import Synchronization

/// The compressed block that was read in part last, decompressed. Its own lock, as readers fill it.
final class BlockCache: Sendable {
  private struct State: @unchecked Sendable {
    var block: UInt64?
    /// One block; nil before the first use.
    var memory: UnsafeMutableRawPointer?
  }

  private let state = Mutex<State>(State())

  deinit { state.withLock { $0.memory?.deallocate() } }

  /// Copies a part of a block out, if it is here.
  func read(
    _ block: UInt64, from offset: Int, into target: UnsafeMutableRawBufferPointer
  ) -> Bool {
    // SAFETY: the target is used within the call only.
    nonisolated(unsafe) let target = target
    return state.withLock { state in
      guard state.block == block, let memory = state.memory else { return false }
      target.copyMemory(from: UnsafeRawBufferPointer((memory + offset).buffer(target.count)))
      return true
    }
  }

  /// Takes a copy of a block.
  func store(_ block: UInt64, _ content: UnsafeRawBufferPointer) {
    nonisolated(unsafe) let content = content
    state.withLock { state in
      let memory =
        state.memory ?? .allocate(byteCount: Scratch.blockCount, alignment: Format.pageSize)
      memory.copyMemory(
        from: content.baseAddress ?? UnsafeRawPointer(memory), byteCount: content.count)
      state.memory = memory
      state.block = block
    }
  }

  /// Forgets the block, because content changed.
  func invalidate() { state.withLock { $0.block = nil } }
}
