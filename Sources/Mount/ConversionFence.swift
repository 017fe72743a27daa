import Migration
import Synchronization
import Vault

/// What a conversion has to do with an inode.
enum ConversionStage: UInt8 {
  case none
  /// Its content is being copied; nobody writes.
  case copying
  /// It was changed since the copy began.
  case disturbed
  /// The new version is being put into place: changes wait.
  case swapping
  /// Its name leads to another inode; whoever has it open keeps it.
  case replaced
}

/// Keeps conversions and changes of one inode apart. A change never waits for a copy, only for the
/// moment of the swap: it makes the copy worthless instead.
extension FileSystem {
  /// Whether a conversion has put another inode in this one's place. The kernel answers ESTALE by looking the
  /// name up anew.
  func isReplaced(_ inode: Inode) -> Bool { inode.state.withLock { $0.stage == .replaced } }

  /// Counts a change of content or attributes that is about to be made, or an open for writing.
  ///
  /// - Throws: `MountFailure.stale` if the change would be lost.
  func beginChange(_ inode: Inode) throws {
    while true {
      let stage = inode.state.withLock { state in
        switch state.stage {
        case .swapping, .replaced: return state.stage
        case .copying: state.stage = .disturbed
        case .none, .disturbed: break
        }
        state.changes += 1
        return .none
      }
      switch stage {
      case .replaced: throw MountFailure.stale
      case .swapping: conversions.swapping.withLock { _ in }
      case .none, .copying, .disturbed: return
      }
    }
  }

  /// Takes back what ``beginChange(_:)`` counted.
  func endChange(_ inode: Inode) { inode.state.withLock { $0.changes -= 1 } }

  /// Begins to watch an inode that is to be converted.
  ///
  /// - Throws: `TransferError.busy` where somebody writes to it.
  func beginCopy(_ inode: Inode) throws(TransferError) {
    let isFree = inode.state.withLock { state in
      guard state.changes == 0, state.stage == .none else { return false }
      state.stage = .copying
      return true
    }
    guard isFree else { throw .busy("it is open for writing") }
  }

  /// Ends watching; a file that was replaced stays so.
  func endCopy(_ inode: Inode) {
    inode.state.withLock { if $0.stage != .replaced { $0.stage = .none } }
  }

  /// Gives up early what cannot succeed.
  func requireUndisturbed(_ inode: Inode) throws(TransferError) {
    let isDisturbed = inode.state.withLock { $0.stage == .disturbed }
    if isDisturbed { throw .busy("it was changed meanwhile") }
  }

  /// Runs the swap while no change of the inode is under way and none can begin.
  func swap(
    _ inode: Inode, _ link: Inode.Link, _ body: () throws(TransferError) -> Void
  ) throws(TransferError) {
    try conversions.swapping.withLock { (_) throws(TransferError) in
      let isFree = inode.state.withLock { state in
        guard state.changes == 0, state.stage == .copying else { return false }
        state.stage = .swapping
        return true
      }
      guard isFree else { throw .busy("it was changed meanwhile") }
      do throws(TransferError) {
        try body()
      } catch {
        inode.state.withLock { $0.stage = .none }
        throw error
      }
      // Its inode number may now come back as another object.
      table.detach(inode)
      inode.remove(link)
      inode.state.withLock { $0.stage = .replaced }
    }
  }
}
