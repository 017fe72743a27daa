import Container
import Primitives
import Synchronization
import SystemPackage

/// A backing file in memory.
public final class MemoryStore: BlockStore {
  private let content: Mutex<[UInt8]>
  private let modified = Mutex<TimeSpec?>(nil)

  /// Starts with some bytes.
  public init(_ bytes: [UInt8] = []) {
    content = Mutex(bytes)
  }

  /// All bytes.
  public var bytes: [UInt8] {
    get { content.withLock { $0 } }
    set { content.withLock { $0 = newValue } }
  }

  /// The time set last.
  public var modificationTime: TimeSpec? { modified.withLock { $0 } }

  /// Copies out.
  public func read(
    at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    nonisolated(unsafe) let buffer = buffer
    return content.withLock { bytes in
      guard offset < UInt64(bytes.count), buffer.count > 0 else { return 0 }
      let start = Int(offset)
      let count = min(buffer.count, bytes.count - start)
      bytes.withUnsafeBytes {
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<(start + count)]))
      }
      return count
    }
  }

  /// Copies out, one buffer after another.
  public func read(
    at offset: UInt64, head: UnsafeMutableRawBufferPointer, body: UnsafeMutableRawBufferPointer,
    tail: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    var done = 0
    for part in [head, body, tail] {
      let count = try read(at: offset + UInt64(done), into: part)
      done += count
      if count < part.count { break }
    }
    return done
  }

  /// Copies in; what lies between the end and `offset` becomes zero.
  public func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer) throws(Errno) {
    nonisolated(unsafe) let buffer = buffer
    content.withLock { bytes in
      let end = Int(offset) + buffer.count
      if end > bytes.count {
        bytes.append(contentsOf: repeatElement(0, count: end - bytes.count))
      }
      bytes.withUnsafeMutableBytes {
        UnsafeMutableRawBufferPointer(rebasing: $0[Int(offset)..<end]).copyMemory(from: buffer)
      }
    }
  }

  /// Cuts, or extends with zeros.
  public func truncate(to length: UInt64) throws(Errno) {
    content.withLock { bytes in
      let length = Int(length)
      if length < bytes.count {
        bytes.removeLast(bytes.count - length)
      } else {
        bytes.append(contentsOf: repeatElement(0, count: length - bytes.count))
      }
    }
  }

  /// Nothing to wait for.
  public func sync(withTimes: Bool) throws(Errno) {}

  /// How many bytes there are.
  public func length() throws(Errno) -> UInt64 { UInt64(content.withLock { $0.count }) }

  /// Keeps the time.
  public func setModificationTime(_ time: TimeSpec) throws(Errno) {
    modified.withLock { $0 = time }
  }
}
