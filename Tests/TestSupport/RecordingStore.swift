import Container
import Primitives
import Synchronization
import SystemPackage

/// A backing file in memory that keeps a log, from which the states are made that a power cut may
/// leave.
public final class RecordingStore: BlockStore {
  /// One change or sync.
  public enum Operation: Sendable {
    /// Bytes written at an offset.
    case write(UInt64, [UInt8])
    /// The length set.
    case truncate(UInt64)
    /// Everything before is on the medium, perhaps with the times.
    case sync(withTimes: Bool)
  }

  private let inner: MemoryStore
  private let log = Mutex<[Operation]>([])
  /// What writes and syncs go through; lets a test break the store on purpose.
  private let filter: @Sendable (Operation) -> Operation?

  /// Starts with some bytes, which are on the medium.
  ///
  /// - Parameters:
  ///   - bytes: The bytes.
  ///   - filter: What is logged and done instead of an operation; nil for nothing.
  public init(
    _ bytes: [UInt8] = [], filter: @escaping @Sendable (Operation) -> Operation? = { $0 }
  ) {
    inner = MemoryStore(bytes)
    self.filter = filter
  }

  /// Everything done so far.
  public var operations: [Operation] { log.withLock { $0 } }

  /// How much was done so far.
  public var count: Int { log.withLock { $0.count } }

  /// All bytes, as a process sees them.
  public var bytes: [UInt8] { inner.bytes }

  /// Reads what was written.
  public func read(
    at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try inner.read(at: offset, into: buffer)
  }

  /// Reads what was written.
  public func read(
    at offset: UInt64, head: UnsafeMutableRawBufferPointer, body: UnsafeMutableRawBufferPointer,
    tail: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    try inner.read(at: offset, head: head, body: body, tail: tail)
  }

  /// Writes and logs.
  public func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer) throws(Errno) {
    try apply(.write(offset, [UInt8](buffer)))
  }

  /// Truncates and logs.
  public func truncate(to length: UInt64) throws(Errno) { try apply(.truncate(length)) }

  /// Logs.
  public func sync(withTimes: Bool) throws(Errno) { try apply(.sync(withTimes: withTimes)) }

  /// How many bytes there are.
  public func length() throws(Errno) -> UInt64 { try inner.length() }

  /// Not part of the model.
  public func setModificationTime(_ time: TimeSpec) throws(Errno) {}

  private func apply(_ operation: Operation) throws(Errno) {
    guard let operation = filter(operation) else { return }
    log.withLock { $0.append(operation) }
    switch operation {
    case .write(let offset, let bytes):
      let store = inner
      let result = bytes.withUnsafeBytes { raw -> Errno? in
        do throws(Errno) {
          try store.write(at: offset, from: raw)
          return nil
        } catch {
          return error
        }
      }
      if let result { throw result }
    case .truncate(let length): try inner.truncate(to: length)
    case .sync: break
    }
  }
}

/// The states in which a power cut may leave a file: each sector since the last sync has any of the
/// contents it had, and the file any of the lengths.
public struct CrashImage {
  private let sector: Int
  /// Contents of each sector, oldest first. A sector not listed is zero.
  private var versions: [[[UInt8]]] = []
  private var lengths = [0]
  private var length = 0

  /// Starts with an empty file.
  ///
  /// - Parameter sector: Bytes that are written as one: 512 or 4096.
  public init(sector: Int) {
    self.sector = sector
  }

  /// Follows an operation.
  public mutating func apply(_ operation: RecordingStore.Operation) {
    switch operation {
    case .write(let offset, let bytes):
      precondition(Int(offset) % sector == 0 && bytes.count % sector == 0, "writes are of pages")
      let first = Int(offset) / sector
      for index in 0..<(bytes.count / sector) {
        extend(to: first + index + 1)
        versions[first + index].append(Array(bytes[(index * sector)..<((index + 1) * sector)]))
      }
      setLength(max(length, Int(offset) + bytes.count))
    case .truncate(let newLength):
      let zero = [UInt8](repeating: 0, count: sector)
      let first = Int(newLength) / sector
      if first < versions.count {
        for index in first..<versions.count { versions[index].append(zero) }
      }
      setLength(Int(newLength))
    case .sync:
      for index in versions.indices { versions[index].removeFirst(versions[index].count - 1) }
      lengths = [length]
    }
  }

  private mutating func extend(to count: Int) {
    let zero = [UInt8](repeating: 0, count: sector)
    while versions.count < count { versions.append([zero]) }
  }

  private mutating func setLength(_ new: Int) {
    length = new
    if lengths.last != new { lengths.append(new) }
  }

  /// The state in which everything arrived.
  public var complete: [UInt8] { image(length: length) { $0.count - 1 } }

  /// How many states there are; nil if more than `limit`.
  public func stateCount(limit: Int) -> Int? {
    var count = lengths.count
    for sector in versions {
      count *= sector.count
      if count > limit { return nil }
    }
    return count
  }

  /// One of the states, by number.
  public func state(_ number: Int) -> [UInt8] {
    var rest = number / lengths.count
    return image(length: lengths[number % lengths.count]) { versions in
      defer { rest /= versions.count }
      return rest % versions.count
    }
  }

  /// A random state.
  public func sample(_ random: inout SeededRandom) -> [UInt8] {
    // Mostly the whole length; mostly new or mostly old sectors, or half and half.
    let length =
      random.chance(oneIn: 3) ? lengths.randomElement(using: &random) ?? self.length : self.length
    let style = Int.random(in: 0..<4, using: &random)
    return image(length: length) { versions in
      switch style {
      case 0: Int.random(in: 0..<versions.count, using: &random)
      case 1:
        random.chance(oneIn: 6)
          ? Int.random(in: 0..<versions.count, using: &random) : versions.count - 1
      case 2: random.chance(oneIn: 6) ? Int.random(in: 0..<versions.count, using: &random) : 0
      default: random.chance(oneIn: 2) ? versions.count - 1 : 0
      }
    }
  }

  private func image(length: Int, _ choose: ([[UInt8]]) -> Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(versions.count * sector)
    for sector in versions { bytes += sector[choose(sector)] }
    if bytes.count > length {
      bytes.removeLast(bytes.count - length)
    } else {
      bytes += [UInt8](repeating: 0, count: length - bytes.count)
    }
    return bytes
  }
}
