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

  /// Threads that help with it; nil where nothing has to be sealed or opened.
  fileprivate var crew: WorkCrew? {
    switch self {
    case .outside, .plain: nil
    case .container(let container): container.file.crew
    case .stored(let file): file.crew
    }
  }

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

  /// Starts reading a range into the beginning of a buffer.
  fileprivate func reading(
    _ range: Range<UInt64>, into buffer: UnsafeMutableRawBufferPointer, _ crew: WorkCrew
  ) -> BackgroundTask<TransferError> {
    let size = TransferBuffer.partSize
    return crew.begin(parts: (range.count + size - 1) / size) { part throws(TransferError) in
      let offset = part * size
      let start = range.lowerBound + UInt64(offset)
      try fill(
        UnsafeMutableRawBufferPointer(rebasing: buffer[offset...]),
        start..<min(start + UInt64(size), range.upperBound))
    }
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
  private static let size = 4 << 20
  /// What is read by one thread at a time.
  fileprivate static let partSize = 512 << 10
  let first = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
  private let second = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
  /// For files that have no crew of their own.
  private let ownCrew = WorkCrew(limit: 1)

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
    let crew = target.crew ?? source.crew ?? ownCrew
    if let chunk { try source.reading(chunk, into: full, crew).finish() }
    while let current = chunk {
      chunk = try chunks.next()
      let reading = chunk.map { source.reading($0, into: empty, crew) }
      var failure: TransferError?
      do throws(TransferError) {
        try target.write(
          at: current.lowerBound, from: UnsafeRawBufferPointer(rebasing: full[..<current.count]))
      } catch {
        failure = error
      }
      // In any case, as it uses the buffer.
      try reading?.finish()
      if let failure { throw failure }
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
        // What has to be opened takes longer.
        let reading = left.reading(chunk, into: one, right.crew ?? left.crew ?? ownCrew)
        defer { try? reading.finish() }
        try right.fill(other, chunk)
        try reading.finish()
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
