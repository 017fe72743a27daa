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

  func read(
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
  static let size = 1 << 20
  let first = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
  let second = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)

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
    var offset: UInt64 = 0
    while offset < size, let data = try source.nextData(from: offset), data < size {
      let end = min(try source.nextHole(from: data) ?? size, size)
      offset = data
      while offset < end {
        // Chunks end where blocks do, whatever the data began with.
        let room = UInt64(TransferBuffer.size) - offset % UInt64(TransferBuffer.size)
        let wanted = Int(min(end - offset, room))
        let part = UnsafeMutableRawBufferPointer(rebasing: first[..<wanted])
        guard try source.read(at: offset, into: part) == wanted else { throw .changed }
        try target.write(at: offset, from: UnsafeRawBufferPointer(part))
        offset += UInt64(wanted)
        try advance(UInt64(wanted))
      }
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
    while offset < size {
      try proceed()
      let data = min(
        try left.nextData(from: offset) ?? size, try right.nextData(from: offset) ?? size)
      offset = max(offset, data)
      guard offset < size else { return true }
      let wanted = Int(min(size - offset, UInt64(TransferBuffer.size)))
      let one = UnsafeMutableRawBufferPointer(rebasing: first[..<wanted])
      let other = UnsafeMutableRawBufferPointer(rebasing: second[..<wanted])
      guard try left.read(at: offset, into: one) == wanted,
        try right.read(at: offset, into: other) == wanted
      else { return false }
      guard let start = one.baseAddress, let otherStart = other.baseAddress,
        memcmp(start, otherStart, wanted) == 0
      else { return false }
      offset += UInt64(wanted)
    }
    return true
  }
}
