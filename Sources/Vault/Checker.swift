import Container
import Primitives
import SystemPackage

/// Goes through an open vault and tells what is wrong with it; repairs without ever deleting.
///
/// Used by one thread at a time.
public final class Checker {
  let vault: Vault
  let options: CheckOptions
  let quarantine: Quarantine
  /// Whether somebody else has the vault open for writing.
  let isMounted: Bool
  private let report: (CheckFinding) -> Void
  private let advance: (CheckProgress) -> Void
  /// How far it has come.
  public internal(set) var progress = CheckProgress()
  /// What was found in files with several names.
  var verified: [InodeIdentity: [Damage]] = [:]
  /// What was saved of files with several names.
  var salvaged: [InodeIdentity: (directory: VaultDirectory, name: [UInt8], result: String)] = [:]

  var context: VaultContext { vault.context }

  /// A directory still to be checked.
  private struct Pending {
    var parent: VaultDirectory
    var entry: VaultEntry
  }

  /// Prepares a check.
  ///
  /// - Parameters:
  ///   - checked: A vault that `openForCheck` could open.
  ///   - options: The same as were given there.
  ///   - report: Called with each finding.
  ///   - advance: Called after each entry and each piece of a large file.
  public init?(
    _ checked: CheckedVault, options: CheckOptions, report: @escaping (CheckFinding) -> Void,
    advance: @escaping (CheckProgress) -> Void
  ) {
    guard let vault = checked.vault else { return nil }
    self.vault = vault
    isMounted = checked.writer != nil
    self.options = options
    self.report = report
    self.advance = advance
    quarantine = Quarantine(base: checked.base, name: options.lostAndFound)
  }

  /// Checks everything at a path and below it.
  ///
  /// - Parameter path: Plain names from the root; none for the whole vault.
  /// - Throws: `.system`, `.damaged` and the like if the way to the path cannot be gone.
  public func run(_ path: [[UInt8]] = []) throws(VaultError) {
    var directory = vault.root
    var pending: [Pending] = []
    if let last = path.last {
      for name in path.dropLast() { directory = try directory.openDirectory(named: name) }
      let entry = try directory.require(last)
      if entry.mode == .directory {
        pending.append(Pending(parent: directory, entry: entry))
      } else {
        check(entry, in: directory)
      }
    } else {
      pending = check(directory)
    }
    while let next = pending.popLast() {
      let path = self.path(of: next.entry.name, in: next.parent)
      do throws(VaultError) {
        pending += check(try next.parent.openDirectory(next.entry))
      } catch .damaged(let reason) {
        found(.damage, path, reason) { () throws(VaultError) in
          try self.setAside(next.entry.backingName, in: next.parent)
        }
      } catch {
        failed(path, error)
      }
    }
  }

  /// Counts what a check of a path will go through, by looking at the backing folder only.
  ///
  /// - Parameter path: As for `run`.
  /// - Returns: Entries, and for a deep check the bytes of regular files; less where something
  ///   cannot be read.
  public func measure(_ path: [[UInt8]] = []) -> CheckProgress {
    var total = CheckProgress()
    var directory = vault.root
    for name in path {
      guard let child = try? directory.openDirectory(named: name) else { return total }
      directory = child
    }
    guard let start = try? directory.openListing() else { return total }
    // A directory stays open until those in it are done: as many as the tree is deep.
    var pending = [(start, [UInt8(ascii: ".")])]
    while let (parent, name) = pending.popLast() {
      guard let listing = try? context.openForReading(parent.rawValue, name, .directory) else {
        continue
      }
      let directory = SharedFD(listing)
      total.directories += 1
      for entry in (try? Sys.entries(of: directory.rawValue)) ?? [] {
        if entry.kind == .directory {
          pending.append((directory, entry.name))
        } else {
          total.files += 1
          total.bytes += storedBytes(entry, directory.rawValue)
        }
      }
    }
    return total
  }

  private func storedBytes(
    _ entry: (name: [UInt8], inode: UInt64, kind: FileKind), _ directory: Int32
  ) -> UInt64 {
    guard options.isDeep, entry.kind == .regular,
      let status = try? Sys.statx(directory, entry.name, fields: .basic)
    else { return 0 }
    return min(status.size, status.blocks * 512)
  }

  // MARK: Findings

  func path(of name: [UInt8], in directory: VaultDirectory) -> [UInt8] {
    directory.path + [UInt8(ascii: "/")] + name
  }

  /// Reports something, after trying to repair it if that is wanted and possible.
  ///
  /// - Parameters:
  ///   - severity: How bad it is.
  ///   - path: Where it is.
  ///   - reason: What it is.
  ///   - repair: Puts it right and says what it did; nil where nothing can be done.
  func found(
    _ severity: CheckSeverity, _ path: [UInt8], _ reason: String,
    _ repair: (() throws(VaultError) -> String)? = nil
  ) {
    var outcome = CheckOutcome.left
    if options.repairs, let repair {
      do throws(VaultError) {
        outcome = .repaired(try repair())
      } catch {
        outcome = .failed(Checker.text(error))
      }
    }
    report(CheckFinding(severity: severity, path: path, reason: reason, outcome: outcome))
  }

  /// Reports what kept something from being checked.
  func failed(_ path: [UInt8], _ error: VaultError) {
    found(.damage, path, "cannot be checked: \(Checker.text(error))")
  }

  static func text(_ error: VaultError) -> String {
    switch error {
    case .system(let errno, let what): "\(what): \(errno)"
    case .damaged(let reason), .refused(let reason): reason
    case .container(.damaged(let damage)): damage.description
    case .container(.io(let errno)): "\(errno)"
    default: "\(error)"
    }
  }

  /// Moves an entry with its sidecar to lost+found.
  func setAside(
    _ backingName: [UInt8], in directory: VaultDirectory
  ) throws(VaultError) -> String {
    let handle = try directory.descriptor()
    defer { withExtendedLifetime(handle) {} }
    let place = try quarantine.take(backingName, from: handle.rawValue, id: directory.id)
    if let sidecar = directory.sidecarName(of: backingName),
      (try? Sys.statx(handle.rawValue, sidecar, fields: .type)) != nil,
      !directory.isSidecarUsed(sidecar, handle.rawValue)
    {
      _ = try quarantine.take(sidecar, from: handle.rawValue, id: directory.id)
    }
    return "moved to \(place)"
  }

  // MARK: Directories

  /// Checks a directory's record and entries.
  ///
  /// - Returns: The directories in it.
  private func check(_ directory: VaultDirectory) -> [Pending] {
    var children: [Pending] = []
    do throws(VaultError) {
      let handle = try directory.descriptor()
      defer { withExtendedLifetime(handle) {} }
      let view = try directory.viewWithAlternates()
      checkRecord(of: directory, handle.rawValue)
      let listing = try directory.openListing()
      let entries = try attempt("reading a directory") { () throws(Errno) in
        try Sys.entries(of: listing.rawValue)
      }
      let names = Set(entries.map(\.name))
      // In the order of their inodes, which is that of the disk on most filesystems.
      for raw in entries.sorted(by: { $0.inode < $1.inode }) {
        if VaultDirectory.isAlternate(raw.name) {
          // Under a name of the tool's own, this need not look reserved.
          checkReserved(raw.name, among: names, in: directory, handle.rawValue)
          continue
        }
        let plain: VaultDirectory.Plain
        do throws(VaultError) {
          plain = try directory.plainName(raw.name, view, listing.rawValue)
        } catch {
          failed(self.path(ofBacking: raw.name, in: directory), error)
          continue
        }
        switch plain {
        case .hidden: checkReserved(raw.name, among: names, in: directory, handle.rawValue)
        case .unknown: checkUnknown(raw.name, in: directory)
        case .known(let name, _, _):
          guard let entry = identify(name, raw.name, in: directory) else { continue }
          if entry.mode == .directory {
            children.append(Pending(parent: directory, entry: entry))
          } else {
            check(entry, in: directory)
          }
        }
      }
      checkAttributes(
        try directory.attributes(), directory.parent == nil ? [UInt8(ascii: "/")] : directory.path)
    } catch {
      failed(directory.parent == nil ? [UInt8(ascii: "/")] : directory.path, error)
    }
    progress.directories += 1
    advance(progress)
    return children
  }

  /// Looks a listed name up.
  private func identify(
    _ name: [UInt8], _ backingName: [UInt8], in directory: VaultDirectory
  ) -> VaultEntry? {
    let path = path(of: name, in: directory)
    do throws(VaultError) {
      guard let entry = try directory.lookup(name) else {
        found(.damage, path, "listed, but not found by its name")
        return nil
      }
      if entry.backingName == backingName { return entry }
      found(.harmless, path, "hidden by another entry of the same name") {
        () throws(VaultError) in try self.setAside(backingName, in: directory)
      }
    } catch .refused(let reason) {
      found(.damage, path, reason) { () throws(VaultError) in
        try self.setAside(backingName, in: directory)
      }
    } catch {
      failed(path, error)
    }
    return nil
  }

  private func check(_ entry: VaultEntry, in directory: VaultDirectory) {
    let path = path(of: entry.name, in: directory)
    switch entry.mode {
    case .container, .longLink: check(container: entry, in: directory, path)
    case .symbolicLink:
      do throws(VaultError) {
        _ = try directory.readLink(entry)
      } catch {
        found(.damage, path, Checker.text(error)) { () throws(VaultError) in
          try self.setAside(entry.backingName, in: directory)
        }
      }
    case .special:
      do throws(VaultError) {
        checkAttributes(try directory.attributes(of: entry), path)
      } catch {
        failed(path, error)
      }
    case .plain, .directory: break
    }
    progress.files += 1
    advance(progress)
  }

  /// Adds bytes that were read to the progress.
  func note(bytes: UInt64) {
    progress.bytes += bytes
    advance(progress)
  }

  /// Opens every sealed attribute.
  func checkAttributes(_ attributes: Attributes, _ path: [UInt8]) {
    do throws(VaultError) {
      for (stored, reason) in try attributes.damaged() {
        found(.damage, path, reason) { () throws(VaultError) in
          try attributes.putAside(stored)
          return "put aside"
        }
      }
    } catch {
      found(.damage, path, Checker.text(error))
    }
  }
}
