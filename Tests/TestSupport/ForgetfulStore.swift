import Container
import Primitives
import Synchronization
import SystemPackage

/// A backing file behind a page cache: writes reach the medium with a sync, and a failed sync
/// forgets which pages still had to be written, as Linux does.
public final class ForgetfulStore: BlockStore {
  private struct State {
    var medium: [UInt8] = []
    var dirty: Set<Int> = []
    var failsNextSync = false
  }

  private static let pageSize = 4096
  private let cache = MemoryStore()
  private let state = Mutex(State())

  /// Starts empty.
  public init() {}

  /// What is on the medium.
  public var medium: [UInt8] { state.withLock { $0.medium } }

  /// Whether the next sync fails.
  public var failsNextSync: Bool {
    get { state.withLock { $0.failsNextSync } }
    set { state.withLock { $0.failsNextSync = newValue } }
  }

  /// Reads the cache.
  public func read(
    at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try cache.read(at: offset, into: buffer)
  }

  /// Reads the cache.
  public func read(
    at offset: UInt64, head: UnsafeMutableRawBufferPointer, body: UnsafeMutableRawBufferPointer,
    tail: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try cache.read(at: offset, head: head, body: body, tail: tail)
  }

  /// Writes to the cache.
  public func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer) throws(Errno) {
    try cache.write(at: offset, from: buffer)
    let first = Int(offset) / ForgetfulStore.pageSize
    let end = (Int(offset) + buffer.count + ForgetfulStore.pageSize - 1) / ForgetfulStore.pageSize
    state.withLock { $0.dirty.formUnion(first..<end) }
  }

  /// Sets the length of both.
  public func truncate(to length: UInt64) throws(Errno) {
    try cache.truncate(to: length)
    state.withLock { state in
      let count = Int(length)
      if state.medium.count > count {
        state.medium.removeLast(state.medium.count - count)
      }
      state.dirty = state.dirty.filter { $0 * ForgetfulStore.pageSize < count }
    }
  }

  /// Brings pages to the medium, or fails and forgets them.
  public func sync(withTimes: Bool) throws(Errno) {
    let bytes = cache.bytes
    let failed = state.withLock { state in
      defer {
        state.dirty = []
        state.failsNextSync = false
      }
      if state.failsNextSync { return true }
      if state.medium.count < bytes.count {
        state.medium += [UInt8](repeating: 0, count: bytes.count - state.medium.count)
      }
      for page in state.dirty {
        let start = page * ForgetfulStore.pageSize
        let end = min(start + ForgetfulStore.pageSize, bytes.count)
        state.medium.replaceSubrange(start..<end, with: bytes[start..<end])
      }
      return false
    }
    if failed { throw .ioError }
  }

  /// Length of the cache.
  public func length() throws(Errno) -> UInt64 { try cache.length() }

  /// Not part of the model.
  public func setModificationTime(_ time: TimeSpec) throws(Errno) {}
}
