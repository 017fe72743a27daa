import Synchronization

/// A run over many entries: what cannot be carried over is reported, and some failures end everything.
protocol TransferRun {
  var observer: MigrationObserver { get }
  var failures: Failures { get }
}

/// What a run could not carry over, noted by any of its threads.
final class Failures: Sendable {
  private let last = Mutex<TransferError?>(nil)
  private let isAny = Atomic<Bool>(false)

  /// What ended everything early.
  var ending: TransferError? { last.withLock { $0 } }

  /// Whether anything was left where it is.
  var haveOccurred: Bool { isAny.load(ordering: .relaxed) }

  fileprivate func note(_ error: TransferError) {
    isAny.store(true, ordering: .relaxed)
    if error.endsEverything { last.withLock { $0 = $0 ?? error } }
  }
}

extension TransferRun {
  var isStopping: Bool { failures.ending != nil || observer.wantsStop() }

  /// How it ended.
  var end: MigrationEnd {
    if let failure = failures.ending { return .failed(failure) }
    return observer.wantsStop() ? .stopped : .complete
  }

  func report(_ path: [UInt8], _ error: TransferError) {
    if case .stopped = error { return }
    failures.note(error)
    if !error.endsEverything { observer.report(.problem(path: path, error.problem)) }
  }

  func reportLosses(_ path: [UInt8], _ losses: [String]) {
    for loss in losses { observer.report(.problem(path: path, .notKept(loss))) }
  }
}
