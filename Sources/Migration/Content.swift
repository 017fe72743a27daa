import Container
import Glibc
import Primitives
import SystemPackage
import Vault

/// The bytes of a file, in the vault or outside.
enum Content: Sendable {
  case outside(SharedFD)
  case plain(SharedFD)
  case container(VaultContainer)
  /// What the medium has of a container.
  case stored(ContainerFile)

  private func read(
    at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(TransferError) -> Int {
    switch self {
    case .outside(let file), .plain(let file):
      return try attempting("reading") { () throws(Errno) in
        try Sys.pread(file.rawValue, buffer, at: Int64(clamping: offset))
      }
    case .container(let container):
      return try Content.attempt { () throws(ContainerError) in
        try container.file.read(at: offset, into: buffer)
      }
    case .stored(let file):
      return try Content.attempt { () throws(ContainerError) in
        try file.read(at: offset, into: buffer)
      }
    }
  }

  /// Reads a whole range into the beginning of a buffer.
  ///
  /// - Throws: `.changed` where the file ends before, `.outside`, `.vault`.
  func fill(
    _ buffer: UnsafeMutableRawBufferPointer, _ range: Range<UInt64>
  ) throws(TransferError) {
    let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<range.count])
    guard try read(at: range.lowerBound, into: part) == part.count else { throw .changed }
  }

  func write(at offset: UInt64, from bytes: UnsafeRawBufferPointer) throws(TransferError) {
    switch self {
    case .outside(let file), .plain(let file):
      try attempting("writing") { () throws(Errno) in
        try Sys.pwrite(file.rawValue, bytes, at: Int64(clamping: offset))
      }
    case .container(let container):
      try Content.attempt { () throws(ContainerError) in
        try container.file.write(at: offset, from: bytes)
      }
    case .stored: preconditionFailure("what the medium has is only read")
    }
  }

  func truncate(to size: UInt64) throws(TransferError) {
    switch self {
    case .outside(let file), .plain(let file):
      try attempting("setting the size") { () throws(Errno) in
        try Sys.ftruncate(file.rawValue, size: Int64(clamping: size))
      }
    case .container(let container):
      try Content.attempt { () throws(ContainerError) in try container.file.truncate(to: size) }
    case .stored: preconditionFailure("what the medium has is only read")
    }
  }

  /// The next data at or after an offset; nil where only a hole follows.
  func nextData(from offset: UInt64) throws(TransferError) -> UInt64? {
    switch self {
    case .outside(let file), .plain(let file):
      return try Content.seek(file, offset, .data)
    case .container(let container):
      return try Content.attempt { () throws(ContainerError) in
        try container.file.nextData(from: offset)
      }
    case .stored(let file):
      return try Content.attempt { () throws(ContainerError) in
        try file.nextData(from: offset)
      }
    }
  }

  /// The next hole at or after an offset; nil where none is known.
  func nextHole(from offset: UInt64) throws(TransferError) -> UInt64? {
    switch self {
    case .outside(let file), .plain(let file):
      return try Content.seek(file, offset, .hole)
    case .container(let container):
      return try Content.attempt { () throws(ContainerError) in
        try container.file.nextHole(from: offset)
      }
    case .stored(let file):
      return try Content.attempt { () throws(ContainerError) in
        try file.nextHole(from: offset)
      }
    }
  }

  private static func seek(
    _ file: SharedFD, _ offset: UInt64, _ whence: Sys.Whence
  ) throws(TransferError) -> UInt64? {
    do throws(Errno) {
      return UInt64(try Sys.lseek(file.rawValue, Int64(clamping: offset), whence))
    } catch .noSuchAddressOrDevice {
      return nil
    } catch .invalidArgument where whence == .data {
      // A filesystem without holes: everything is data.
      return offset
    } catch .invalidArgument {
      return nil
    } catch {
      throw .outside(error, "looking for holes")
    }
  }

  private static func attempt<R>(
    _ body: () throws(ContainerError) -> R
  ) throws(TransferError) -> R {
    do {
      return try body()
    } catch {
      throw .vault(.container(error))
    }
  }
}

/// Memory that one thread copies through.
final class TransferBuffer {
  private static let size = 8 << 20
  /// Less is done before another thread would wake up for it.
  private static let shareLimit = 256 << 10
  let first = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
  private let second = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
  private let helper = WorkCrew(limit: 1)

  deinit {
    first.deallocate()
    second.deallocate()
  }

  /// Copies a file's data; holes stay holes.
  ///
  /// - Parameters:
  ///   - source: Has `size` bytes.
  ///   - target: Empty.
  ///   - size: In bytes.
  ///   - advance: Hears how many bytes were copied; what it throws ends the copy.
  /// - Throws: `.changed` if the source got shorter, `.outside`, `.vault`.
  func copy(
    _ source: Content, to target: Content, size: UInt64,
    advance: (UInt64) throws(TransferError) -> Void
  ) throws(TransferError) {
    try target.truncate(to: size)
    if case .outside(let from) = source, case .plain(let into) = target,
      (try? Sys.ficlone(from: from.rawValue, to: into.rawValue)) != nil
    {
      return try advance(size)
    }
    var chunks = Chunks(content: source, size: size)
    var (full, empty) = (first, second)
    var chunk = try chunks.next()
    if let chunk { try source.fill(full, chunk) }
    while let current = chunk {
      let (following, bytes, room) = (try chunks.next(), full, empty)
      try both(large: following?.count ?? 0 >= TransferBuffer.shareLimit) {
        () throws(TransferError) in
        try target.write(
          at: current.lowerBound, from: UnsafeRawBufferPointer(rebasing: bytes[..<current.count]))
      } _: { () throws(TransferError) in
        if let following { try source.fill(room, following) }
      }
      chunk = following
      swap(&full, &empty)
      try advance(UInt64(current.count))
    }
  }

  /// Goes through a file's data.
  private struct Chunks {
    let content: Content
    let size: UInt64
    private var offset: UInt64 = 0
    /// Of the data that `offset` is in.
    private var end: UInt64 = 0

    init(content: Content, size: UInt64) {
      self.content = content
      self.size = size
    }

    /// Data that fits into the buffer; nil at the end.
    mutating func next() throws(TransferError) -> Range<UInt64>? {
      if offset == end {
        guard offset < size, let data = try content.nextData(from: offset), data < size else {
          return nil
        }
        end = min(try content.nextHole(from: data) ?? size, size)
        offset = data
      }
      // Chunks end where blocks do, whatever the data began with.
      let room = UInt64(TransferBuffer.size) - offset % UInt64(TransferBuffer.size)
      let start = offset
      offset += min(end - start, room)
      return start..<offset
    }
  }

  /// Does two things, at once where they are large.
  private func both(
    large: Bool, _ one: @escaping () throws(TransferError) -> Void,
    _ other: @escaping () throws(TransferError) -> Void
  ) throws(TransferError) {
    guard large else {
      try one()
      return try other()
    }
    try helper.share(parts: 2) { part throws(TransferError) in
      try part == 0 ? one() : other()
    }
  }

  /// Whether two files have the same bytes; what is a hole in both is not read.
  ///
  /// - Parameters:
  ///   - left: Has `size` bytes.
  ///   - right: Has `size` bytes.
  ///   - size: In bytes.
  ///   - proceed: Asked from time to time; what it throws ends the comparison.
  /// - Returns: Whether all of them agree.
  /// - Throws: What `proceed` throws, `.outside`, `.vault`.
  func isEqual(
    _ left: Content, _ right: Content, size: UInt64, proceed: () throws(TransferError) -> Void
  ) throws(TransferError) -> Bool {
    var offset: UInt64 = 0
    let (one, other) = (first, second)
    while offset < size {
      try proceed()
      let data = min(
        try left.nextData(from: offset) ?? size, try right.nextData(from: offset) ?? size)
      offset = max(offset, data)
      guard offset < size else { return true }
      let chunk = offset..<offset + min(size - offset, UInt64(TransferBuffer.size))
      do throws(TransferError) {
        try both(large: chunk.count >= TransferBuffer.shareLimit) { () throws(TransferError) in
          try left.fill(one, chunk)
        } _: { () throws(TransferError) in
          try right.fill(other, chunk)
        }
      } catch .changed {
        return false
      }
      guard let start = one.baseAddress, let otherStart = other.baseAddress,
        memcmp(start, otherStart, chunk.count) == 0
      else { return false }
      offset = chunk.upperBound
    }
    return true
  }
}
