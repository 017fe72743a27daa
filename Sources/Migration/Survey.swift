public import Container
import Primitives
import SystemPackage

/// What a migration would do.
public struct MigrationPlan: Sendable {
  /// Files of one mode.
  public struct Share: Sendable {
    /// How many.
    public var files: UInt64 = 0
    /// Their size in bytes.
    public var bytes: UInt64 = 0
  }

  /// Files by the mode they would be stored in.
  public var modes: [ContentPolicy: Share] = [:]
  /// Files that rules leave where they are.
  public var excluded = Share()
  /// Directories.
  public var directories: UInt64 = 0
  /// Links, FIFOs, sockets and devices.
  public var others: UInt64 = 0
  /// What could not be looked at.
  public var unreadable: UInt64 = 0
  /// The most free space that is needed at a time, in bytes, without what compression saves.
  public var spaceNeeded: UInt64 = 0

  var largest: UInt64 = 0
  var stored: UInt64 = 0

  /// Files that would be stored.
  public var total: Share {
    modes.values.reduce(into: Share()) {
      $0.files += $1.files
      $0.bytes += $1.bytes
    }
  }
}

extension Migrator {
  /// Goes through sources without changing anything.
  ///
  /// - Parameters:
  ///   - sources: What would be taken in.
  ///   - target: The names of the directory it would go to.
  /// - Returns: What would happen.
  /// - Throws: `.vault` if the target cannot be looked at.
  public func survey(
    _ sources: [MigrationSource], into target: [[UInt8]]
  ) throws(TransferError) -> MigrationPlan {
    var plan = MigrationPlan()
    var place = SurveyPlace(directory: destination.root, nearest: destination.root)
    for name in target { place = place.inside(name) }
    for source in sources where !observer.wantsStop() {
      if let name = source.name {
        survey(source.base, name, [], place, &plan)
      } else {
        survey(source.base, [], place, &plan)
      }
    }
    let batch = Removals.batchBytes
    plan.spaceNeeded =
      options.moves ? min(plan.stored, 2 * plan.largest + batch) : plan.stored
    return plan
  }

  private func survey(
    _ folder: SharedFD, _ path: [UInt8], _ place: SurveyPlace, _ plan: inout MigrationPlan
  ) {
    plan.directories += 1
    do {
      try Sys.forEachEntry(of: folder.rawValue) {
        let name = [UInt8]($0.name)
        survey(folder, name, joined(path, name), place, &plan)
        return !observer.wantsStop()
      }
    } catch {
      plan.unreadable += 1
    }
  }

  private func survey(
    _ folder: SharedFD, _ name: [UInt8], _ path: [UInt8], _ place: SurveyPlace,
    _ plan: inout MigrationPlan
  ) {
    guard let status = try? Sys.statx(folder.rawValue, name) else {
      plan.unreadable += 1
      return
    }
    let action = path.isEmpty ? nil : options.action(path: path, name: name)
    if action == .exclude {
      plan.excluded.files += 1
      plan.excluded.bytes += status.kind == .regular ? status.size : 0
      return
    }
    switch status.kind {
    case .directory:
      guard !destination.excluded.contains(status.identity) else { return }
      let flags: OpenFlags = [.readOnly, .directory, .noFollow]
      guard let inner = try? Sys.openat(folder.rawValue, name, flags) else {
        plan.unreadable += 1
        return
      }
      survey(SharedFD(inner), path, place.inside(name), &plan)
    case .regular:
      var policy = ContentPolicy.sealed
      if case .store(let wanted) = action {
        policy = wanted
      } else if let usual = try? place.nearest.policy(for: name) {
        policy = usual
      }
      plan.modes[policy, default: MigrationPlan.Share()].files += 1
      plan.modes[policy, default: MigrationPlan.Share()].bytes += status.size
      if options.moves, policy == .plain, status.device == destination.adoptingDevice { return }
      // Whole pages, a reference for each block, and a header.
      let data = min(status.size, status.blocks * 512)
      let stored = data / 4096 * 4096 + data / 64 + 8192
      plan.stored += stored
      plan.largest = max(plan.largest, stored)
    case .unknown, .fifo, .characterDevice, .blockDevice, .symbolicLink, .socket:
      plan.others += 1
    }
  }
}

/// A directory of the vault as far as it exists; policies are inherited from the last that does.
private struct SurveyPlace {
  var directory: (any Receiver)?
  var nearest: any Receiver

  func inside(_ name: [UInt8]) -> SurveyPlace {
    guard let directory, (try? directory.find(name))??.kind == .directory,
      let inner = try? directory.enter(name)
    else { return SurveyPlace(directory: nil, nearest: nearest) }
    return SurveyPlace(directory: inner, nearest: inner)
  }
}
