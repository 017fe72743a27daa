import Primitives

/// Lets several threads store files, and one of them have all the space there is where that is short.
final class Room: Sendable {
  private let lock = ReadWriteLock()

  /// Runs what needs space; where the disk is full once more, alone.
  ///
  /// - Parameters:
  ///   - clear: Makes room before the second time.
  ///   - body: Stores something, and leaves nothing behind where it fails.
  /// - Throws: What `body` throws.
  func use(
    clearing clear: () -> Void, _ body: () throws(TransferError) -> Void
  ) throws(TransferError) {
    do throws(TransferError) {
      return try lock.withReadLock(body)
    } catch {
      guard error.isForSpace else { throw error }
    }
    try lock.withWriteLock { () throws(TransferError) in
      clear()
      try body()
    }
  }
}
