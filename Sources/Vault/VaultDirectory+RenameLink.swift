import Primitives
import SystemPackage

extension VaultDirectory {
  /// Renames a link whose target is sealed for its name.
  ///
  /// A copy for the new name takes the old link's place first, so that the rename is one step; whoever reads the old
  /// name in between finds the old link waiting, as for an exchange.
  func moveLink(
    _ source: VaultEntry, _ target: VaultDirectory, _ name: [UInt8], _ replaced: VaultEntry?,
    _ from: Int32, _ into: Int32
  ) throws(VaultError) {
    var copy = try copyLink(source, to: target, as: name, from, into)
    let isSwapped: Bool
    do throws(Errno) {
      isSwapped = try swap(source, with: &copy, from, into, isMovedAway: target !== self)
    } catch {
      for directory in [from, into] { try? Sys.unlinkat(directory, copy.temporary) }
      throw .system(error, "renaming a link")
    }
    guard isSwapped else {
      try target.install(copy, name, into, replacing: replaced)
      return try removeMoved(source, target, name, replaced, from, into)
    }
    do throws(VaultError) {
      let backing = try target.backingName(name, copy.kind, target.view.record)
      try target.naming("renaming a link", backing, copy.kind, into) { () throws(Errno) in
        if replaced == nil {
          try renameToNew(from, source.backingName, into, backing.name)
        } else {
          try Sys.renameat2(from, source.backingName, into, backing.name)
        }
      }
      do throws(VaultError) {
        if let replaced { try target.removeReplaced(replaced, unless: backing.name, into) }
      } catch {
        try? Sys.renameat2(into, backing.name, from, source.backingName)
        throw error
      }
    } catch {
      // Else the old link goes on waiting, for whoever reads it.
      if (try? exchange(copy.temporary, source.backingName, from)) != nil {
        try? Sys.unlinkat(from, copy.temporary)
      }
      throw error
    }
    try? Sys.unlinkat(from, copy.temporary)
    dropSidecar(source.backingName, source.kind, from)
  }

  /// Puts a copy into a link's place, and the link into the copy's, in the link's directory.
  ///
  /// - Returns: false where the backing filesystem cannot exchange, or they are stored differently.
  private func swap(
    _ source: VaultEntry, with copy: inout (temporary: [UInt8], kind: EntryKind), _ from: Int32,
    _ into: Int32, isMovedAway: Bool
  ) throws(Errno) -> Bool {
    guard source.kind == .primary, copy.kind == .primary else { return false }
    let prepared = copy.temporary
    if isMovedAway {
      let waiting = VaultDirectory.temporaryName()
      try renameToNew(into, prepared, from, waiting)
      copy.temporary = waiting
    }
    do throws(Errno) {
      try exchange(copy.temporary, source.backingName, from)
      return true
    } catch .invalidArgument {
      if isMovedAway { try renameToNew(from, copy.temporary, into, prepared) }
      copy.temporary = prepared
      return false
    }
  }

  private func exchange(
    _ one: [UInt8], _ other: [UInt8], _ directory: Int32
  ) throws(Errno) {
    try Sys.renameat2(directory, one, directory, other, flags: .exchange)
  }

  /// Removes a link whose copy has its new name already.
  private func removeMoved(
    _ source: VaultEntry, _ target: VaultDirectory, _ name: [UInt8], _ replaced: VaultEntry?,
    _ from: Int32, _ into: Int32
  ) throws(VaultError) {
    do throws(Errno) {
      try Sys.unlinkat(from, source.backingName)
    } catch {
      if replaced == nil, let made = try? target.lookup(name) { try? target.unlink(made, into) }
      throw .system(error, "removing the old link")
    }
    dropSidecar(source.backingName, source.kind, from)
  }
}
