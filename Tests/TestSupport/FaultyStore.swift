import Container
import Primitives
import Synchronization
import SystemPackage

/// Passes calls on to another store, and lets some of them fail.
public final class FaultyStore: BlockStore {
  /// Which calls fail.
  public struct Fault: Sendable {
    /// Number of the first call that fails, from 0.
    public var call: Int
    /// How many calls in a row fail.
    public var count: Int
    /// The error.
    public var error: Errno
    /// Whether only calls that change or sync the file are counted and fail.
    public var writesOnly: Bool
    /// Whether a failing write behind the header slots has written its first half.
    public var writesHalf: Bool

    /// Describes a fault.
    public init(
      call: Int, count: Int = 1, error: Errno, writesOnly: Bool = false, writesHalf: Bool = false
    ) {
      self.call = call
      self.count = count
      self.error = error
      self.writesOnly = writesOnly
      self.writesHalf = writesHalf
    }
  }

  private struct State {
    var fault: Fault?
    var calls = 0
  }

  private let inner: any BlockStore
  private let state = Mutex(State())

  /// Wraps a store.
  public init(_ inner: any BlockStore) {
    self.inner = inner
  }

  /// Which calls fail; setting it starts counting anew.
  public var fault: Fault? {
    get { state.withLock { $0.fault } }
    set { state.withLock { $0 = State(fault: newValue) } }
  }

  /// Calls counted since the fault was set.
  public var calls: Int { state.withLock { $0.calls } }

  /// Counts a call, and says whether it fails.
  private func failure(isWrite: Bool) -> Fault? {
    state.withLock { state in
      if let fault = state.fault, fault.writesOnly, !isWrite { return nil }
      defer { state.calls += 1 }
      guard let fault = state.fault, state.calls >= fault.call,
        state.calls < fault.call + fault.count
      else { return nil }
      return fault
    }
  }

  private func check(isWrite: Bool) throws(Errno) {
    if let fault = failure(isWrite: isWrite) { throw fault.error }
  }

  /// Reads, or fails.
  public func read(
    at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try check(isWrite: false)
    return try inner.read(at: offset, into: buffer)
  }

  /// Reads, or fails.
  public func read(
    at offset: UInt64, head: UnsafeMutableRawBufferPointer, body: UnsafeMutableRawBufferPointer,
    tail: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try check(isWrite: false)
    return try inner.read(at: offset, head: head, body: body, tail: tail)
  }

  /// Writes, or fails.
  public func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer) throws(Errno) {
    if let fault = failure(isWrite: true) {
      if fault.writesHalf, offset >= 8192 {
        let half = UnsafeRawBufferPointer(rebasing: buffer[..<(buffer.count / 2)])
        try inner.write(at: offset, from: half)
      }
      throw fault.error
    }
    try inner.write(at: offset, from: buffer)
  }

  /// Truncates, or fails.
  public func truncate(to length: UInt64) throws(Errno) {
    try check(isWrite: true)
    try inner.truncate(to: length)
  }

  /// Syncs, or fails.
  public func sync(withTimes: Bool) throws(Errno) {
    try check(isWrite: true)
    try inner.sync(withTimes: withTimes)
  }

  /// Asks, or fails.
  public func length() throws(Errno) -> UInt64 {
    try check(isWrite: false)
    return try inner.length()
  }

  /// Sets the time, or fails.
  public func setModificationTime(_ time: TimeSpec) throws(Errno) {
    try check(isWrite: true)
    try inner.setModificationTime(time)
  }
}
