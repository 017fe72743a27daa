import Container
public import Vault

/// Converts what is in a vault that nobody else writes to.
public final class TreeConverter {
  private let goal: ConversionGoal
  private let observer: MigrationObserver
  private let files = FileConverter()

  /// Prepares conversions; nothing is done yet.
  ///
  /// - Parameters:
  ///   - goal: How files are to be stored.
  ///   - observer: Hears of what is done.
  public init(_ goal: ConversionGoal, observer: MigrationObserver) {
    self.goal = goal
    self.observer = observer
  }

  /// Converts one entry, or what is in a directory.
  ///
  /// - Parameters:
  ///   - directory: A directory of the vault.
  ///   - entry: What to convert in it; nil for everything.
  ///   - path: Its path, for messages.
  /// - Returns: How it ended.
  public func run(
    _ directory: VaultDirectory, _ entry: VaultEntry?, path: [UInt8]
  ) -> MigrationEnd {
    do throws(TransferError) {
      if let entry {
        try? directory.removeLeftovers()
        try take(entry, in: directory, path)
        try refresh(directory)
      } else {
        try enter(directory, path)
      }
      return .complete
    } catch .stopped {
      return .stopped
    } catch {
      return .failed(error)
    }
  }

  private func enter(_ directory: VaultDirectory, _ path: [UInt8]) throws(TransferError) {
    try? directory.removeLeftovers()
    for item in try inVault({ () throws(VaultError) in try directory.list() }) {
      if observer.wantsStop() { throw .stopped }
      let place = joined(path, item.name)
      do throws(TransferError) {
        let entry = try inVault { () throws(VaultError) in try directory.lookup(item.name) }
        if let entry { try take(entry, in: directory, place) }
      } catch {
        try tell(place, error)
      }
    }
    try refresh(directory)
  }

  private func take(
    _ entry: VaultEntry, in directory: VaultDirectory, _ path: [UInt8]
  ) throws(TransferError) {
    if entry.mode == .directory {
      let inner = try inVault { () throws(VaultError) in try directory.openDirectory(entry) }
      return try enter(inner, path)
    }
    do throws(TransferError) {
      try convert(entry, in: directory, path)
    } catch {
      try tell(path, error)
    }
  }

  private func convert(
    _ entry: VaultEntry, in directory: VaultDirectory, _ path: [UInt8]
  ) throws(TransferError) {
    let fence = ConversionFence(
      advance: { [observer] (bytes) throws(TransferError) in try observer.copied(path, bytes) },
      swap: { (body) throws(TransferError) in try body() },
      isRead: { false })
    let result = try files.convert(entry, in: directory, to: goal, fence: fence)
    observer.report(.finished(path: path, result.outcome, bytes: result.bytes))
    if let note = result.note { observer.report(.problem(path: path, .notKept(note))) }
  }

  /// What nothing in a directory needs any more is not accepted there any more.
  private func refresh(_ directory: VaultDirectory) throws(TransferError) {
    try inVault { () throws(VaultError) in try directory.refreshPresence() }
  }

  private func tell(_ path: [UInt8], _ error: TransferError) throws(TransferError) {
    if case .stopped = error { throw error }
    if error.endsEverything { throw error }
    observer.report(.problem(path: path, error.problem))
  }
}
