import Container
import Primitives
import SystemPackage

extension VaultDirectory {
  /// Swaps two entries, RENAME_EXCHANGE.
  ///
  /// Where both are stored under the same kind this is one step. Otherwise (and for symbolic links
  /// whose sealed targets belong to their names) a crash in between leaves both, one of them
  /// perhaps under a temporary name.
  func exchange(
    _ left: VaultEntry, _ target: VaultDirectory, _ right: VaultEntry, _ from: Int32,
    _ into: Int32
  ) throws(VaultError) {
    if left.identity == right.identity { return }
    let leftLink = try linkCopy(left, to: target, as: right.name, from, into)
    let rightLink: LinkCopy?
    do throws(VaultError) {
      rightLink = try target.linkCopy(right, to: self, as: left.name, into, from)
    } catch {
      if let leftLink { try? Sys.unlinkat(into, leftLink.temporary) }
      throw error
    }
    do throws(VaultError) {
      let leftChild = try prepareExchange(left, target, right.name)
      let rightChild = try target.prepareExchange(right, self, left.name)
      try swap(left, leftLink, target, right, rightLink, from, into)
      try leftChild?.settle(in: target, name: right.name)
      try rightChild?.settle(in: self, name: left.name)
    } catch {
      if let leftLink { try? Sys.unlinkat(into, leftLink.temporary) }
      if let rightLink { try? Sys.unlinkat(from, rightLink.temporary) }
      throw error
    }
  }

  private typealias LinkCopy = (temporary: [UInt8], kind: EntryKind)

  private func linkCopy(
    _ entry: VaultEntry, to target: VaultDirectory, as name: [UInt8], _ from: Int32,
    _ into: Int32
  ) throws(VaultError) -> LinkCopy? {
    guard entry.mode == .symbolicLink || entry.mode == .longLink,
      try !keepsTarget(entry, in: target, from)
    else { return nil }
    return try copyLink(entry, to: target, as: name, from, into)
  }

  /// Adds the binding of the other name.
  ///
  /// - Returns: The directory, if it is one.
  private func prepareExchange(
    _ entry: VaultEntry, _ target: VaultDirectory, _ name: [UInt8]
  ) throws(VaultError) -> VaultDirectory? {
    guard entry.mode == .directory else {
      try prepareMove(entry, to: target, as: name, isNewLink: false)
      return nil
    }
    let child = try openDirectory(entry)
    var ancestor: VaultDirectory? = target
    while let directory = ancestor {
      if directory === child {
        throw .system(.invalidArgument, "a directory cannot be moved into itself")
      }
      ancestor = directory.parent
    }
    let before = context.keys.binding(of: entry.origin.name, in: entry.origin.directory)
    let after = context.keys.binding(of: name, in: target.view.record.id)
    try child.updateRecord { $0.bindings = before == after ? [after] : [before, after] }
    return child
  }

  private func swap(
    _ left: VaultEntry, _ leftLink: LinkCopy?, _ target: VaultDirectory, _ right: VaultEntry,
    _ rightLink: LinkCopy?, _ from: Int32, _ into: Int32
  ) throws(VaultError) {
    let leftKind = leftLink?.kind ?? EntryKind.of(left.mode, names: target.namePolicy)
    let rightKind = rightLink?.kind ?? EntryKind.of(right.mode, names: namePolicy)
    let leftPlace = try target.backingName(right.name, leftKind, target.view.record)
    let rightPlace = try backingName(left.name, rightKind, view.record)
    if let sidecar = leftPlace.sidecar { try target.write(sidecar, into) }
    if let sidecar = rightPlace.sidecar { try write(sidecar, from) }
    try attempt("exchanging two names") { () throws(Errno) in
      if leftPlace.name == right.backingName, rightPlace.name == left.backingName {
        try Sys.renameat2(
          from, left.backingName, into, right.backingName, flags: .exchange)
      } else {
        try swapStepwise(left, leftPlace.name, right, rightPlace.name, from, into)
      }
      if let leftLink { try Sys.renameat2(into, leftLink.temporary, into, leftPlace.name) }
      if let rightLink { try Sys.renameat2(from, rightLink.temporary, from, rightPlace.name) }
    }
    if rightPlace.name != left.backingName { dropSidecar(left.backingName, left.kind, from) }
    if leftPlace.name != right.backingName {
      target.dropSidecar(right.backingName, right.kind, into)
    }
    forgetOldName(left)
    target.forgetOldName(right)
  }

  /// The places differ from the present names, because the kinds or name policies do.
  private func swapStepwise(
    _ left: VaultEntry, _ leftPlace: [UInt8], _ right: VaultEntry, _ rightPlace: [UInt8],
    _ from: Int32, _ into: Int32
  ) throws(Errno) {
    let waiting = VaultDirectory.temporaryName()
    try Sys.renameat2(from, left.backingName, into, waiting)
    do throws(Errno) {
      try Sys.renameat2(into, right.backingName, from, rightPlace)
    } catch {
      try? Sys.renameat2(into, waiting, from, left.backingName)
      throw error
    }
    try Sys.renameat2(into, waiting, into, leftPlace)
  }

  private func forgetOldName(_ entry: VaultEntry) {
    guard entry.mode == .container, let open = context.containers.find(entry.identity) else {
      return
    }
    open.file.removeBinding(
      context.keys.binding(of: entry.origin.name, in: entry.origin.directory))
  }

  /// Ends a directory's move: it is known at its new place only.
  private func settle(in parent: VaultDirectory, name: [UInt8]) throws(VaultError) {
    let record = parent.view.record
    place(
      in: parent, name: name,
      backingName: try parent.backingName(name, .primary, record).name)
    try updateRecord { $0.bindings = [context.keys.binding(of: name, in: record.id)] }
  }
}
