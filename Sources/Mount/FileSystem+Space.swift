import CLinux
import Container
import Glibc
import Primitives
import SystemPackage
import Vault

/// Ranges of files: allocating, looking for holes, copying.
extension FileSystem {
  /// FALLOCATE.
  func allocate(_ nodeid: UInt64, mode: Sys.AllocateMode, at offset: Int64, count: Int64) throws {
    try requireWritable()
    guard offset >= 0, count > 0 else { throw MountFailure.invalid }
    guard !offset.addingReportingOverflow(count).overflow else { throw Errno.fileTooLarge }
    let (inode, file) = try openFile(nodeid)
    try file.lock.withReadLock {
      guard let container = file.container else {
        guard let descriptor = file.descriptor else { throw MountFailure.badHandle }
        return try Sys.fallocate(descriptor.rawValue, mode: mode, offset: offset, length: count)
      }
      try Self.allocate(container, mode, at: UInt64(offset), count: UInt64(count))
      changed(inode, file)
    }
  }

  private static func allocate(
    _ container: ContainerFile, _ mode: Sys.AllocateMode, at offset: UInt64, count: UInt64
  ) throws {
    let keepSize = mode.contains(.keepSize)
    switch mode.subtracting(.keepSize) {
    case []: try container.allocate(at: offset, count: count, keepSize: keepSize)
    case .punchHole:
      guard keepSize else { throw MountFailure.invalid }
      try container.punchHole(at: offset, count: count)
    case .zeroRange: try container.zeroRange(at: offset, count: count, keepSize: keepSize)
    case _: throw MountFailure.notSupported
    }
  }

  /// LSEEK; the kernel asks for data and holes only.
  func seek(_ nodeid: UInt64, from offset: Int64, whence: Int32) throws -> Int64 {
    let wantsData = whence == scrim_SEEK_DATA
    guard wantsData || whence == scrim_SEEK_HOLE else { throw MountFailure.invalid }
    guard let start = UInt64(exactly: offset) else { throw MountFailure.noData }
    let (_, file) = try openFile(nodeid)
    return try file.lock.withReadLock {
      guard let container = file.container else {
        guard let descriptor = file.descriptor else { throw MountFailure.badHandle }
        return try seek(descriptor, offset, wantsData ? .data : .hole)
      }
      let found =
        try wantsData ? container.nextData(from: start) : container.nextHole(from: start)
      guard let found else { throw MountFailure.noData }
      return Int64(clamping: found)
    }
  }

  /// The descriptor's position is nobody's: all other I/O gives its offset.
  private func seek(_ descriptor: SharedFD, _ offset: Int64, _ whence: Sys.Whence) throws -> Int64 {
    try Sys.lseek(descriptor.rawValue, offset, whence)
  }

  // MARK: COPY_FILE_RANGE

  /// One request copies at most this much, so that it does not hold its worker for long.
  private static let copyLimit = 64 << 20
  private static let copyChunk = 1 << 20

  /// COPY_FILE_RANGE: between plain files the backing filesystem does it, sharing extents where it can.
  ///
  /// - Returns: bytes copied, perhaps fewer than asked for.
  func copy(
    _ source: UInt64, at sourceOffset: UInt64, to destination: UInt64, at offset: UInt64,
    count: Int
  ) throws -> Int {
    try requireWritable()
    let (_, from) = try openFile(source)
    let (_, to) = try openFile(destination)
    let limit = Int64.max - Int64(Self.copyLimit)
    guard sourceOffset <= UInt64(limit), offset <= UInt64(limit) else { throw Errno.fileTooLarge }
    let count = min(count, Self.copyLimit)
    if from.sharedContainer() == nil, to.sharedContainer() == nil,
      let input = from.sharedDescriptor(), let output = to.sharedDescriptor()
    {
      return try Sys.copyFileRange(
        from: input.rawValue, at: Int64(sourceOffset), to: output.rawValue, at: Int64(offset),
        count: count)
    }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.copyChunk, alignment: 4096)
    defer { memory.deallocate() }
    var copied = 0
    while copied < count {
      let piece = UnsafeMutableRawBufferPointer(
        rebasing: memory[..<min(Self.copyChunk, count - copied)])
      do {
        let read = try read(source, at: sourceOffset + UInt64(copied), into: piece)
        if read == 0 { break }
        try write(
          destination, at: offset + UInt64(copied),
          from: UnsafeRawBufferPointer(rebasing: piece[..<read]), appends: false,
          isGathered: false, stripping: nil)
        copied += read
      } catch {
        // What was copied before counts, as with write(2).
        guard copied > 0 else { throw error }
        break
      }
    }
    return copied
  }
}
