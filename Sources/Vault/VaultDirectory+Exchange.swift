import Container
import Primitives
import SystemPackage

extension VaultDirectory {
  /// Swaps two entries, RENAME_EXCHANGE.
  ///
  /// Where both are stored under the same kind this is one step, after which copies of symbolic
  /// links, whose sealed targets belong to their names, take the originals' places: a link that a
  /// crash left without its copy in place is finished when it is read. Otherwise one of them is
  /// given its new name beside the old one before the other goes, so that neither is ever without.
  func exchange(
    _ left: VaultEntry, _ target: VaultDirectory, _ right: VaultEntry, _ from: Int32,
    _ into: Int32
  ) throws(VaultError) {
    if left.identity == right.identity { return }
    var first = Side(entry: left, home: self, from, target: target, into, name: right.name)
    var second = Side(entry: right, home: target, into, target: self, from, name: left.name)
    do throws(VaultError) {
      try first.prepare()
      try second.prepare()
      try attempt("exchanging two names") { () throws(Errno) in
        if first.place == right.backingName, second.place == left.backingName {
          try first.swap(with: second)
        } else if first.place == right.backingName {
          try second.move(before: first)
        } else if second.place == left.backingName {
          try first.move(before: second)
        } else {
          try first.nameAnew(with: second)
        }
      }
    } catch {
      first.cancel()
      second.cancel()
      throw error
    }
    first.settle()
    second.settle()
  }

  /// One of the two entries, on its way to the other's name.
  private struct Side {
    let entry: VaultEntry
    let home: VaultDirectory
    let homeDescriptor: Int32
    let target: VaultDirectory
    let targetDescriptor: Int32
    let name: [UInt8]
    /// Of a symbolic link: made for the other name.
    private var copy: (temporary: [UInt8], kind: EntryKind)?
    private var child: VaultDirectory?
    /// The backing name to be.
    private(set) var place: [UInt8] = []
    private var kind = EntryKind.primary

    init(
      entry: VaultEntry, home: VaultDirectory, _ homeDescriptor: Int32, target: VaultDirectory,
      _ targetDescriptor: Int32, name: [UInt8]
    ) {
      self.entry = entry
      self.home = home
      self.homeDescriptor = homeDescriptor
      self.target = target
      self.targetDescriptor = targetDescriptor
      self.name = name
    }

    private var context: VaultContext { home.context }
    private var oldBinding: Binding {
      context.keys.binding(of: entry.origin.name, in: entry.origin.directory)
    }
    private var newBinding: Binding {
      context.keys.binding(of: name, in: target.view.record.id)
    }

    /// Copies a link, and ties anything else to the other name too.
    mutating func prepare() throws(VaultError) {
      kind = EntryKind.of(entry.mode, names: target.namePolicy)
      switch entry.mode {
      case .symbolicLink, .longLink:
        if try home.keepsTarget(entry, in: target, homeDescriptor) { break }
        let made = try home.copyLink(
          entry, to: target, as: name, homeDescriptor, targetDescriptor)
        copy = made
        kind = made.kind
      case .directory: try prepareDirectory()
      case .plain, .container, .special:
        try home.prepareMove(entry, to: target, as: name, isNewLink: false)
      }
      let backing = try target.backingName(name, kind, target.view.record)
      if let sidecar = backing.sidecar { try target.write(sidecar, targetDescriptor) }
      place = backing.name
    }

    private mutating func prepareDirectory() throws(VaultError) {
      let directory = try home.openDirectory(entry)
      var ancestor: VaultDirectory? = target
      while let current = ancestor {
        if current === directory {
          throw .system(.invalidArgument, "a directory cannot be moved into itself")
        }
        ancestor = current.parent
      }
      let (before, after) = (oldBinding, newBinding)
      try directory.updateRecord { $0.bindings = before == after ? [after] : [before, after] }
      child = directory
    }

    /// Undoes `prepare`.
    func cancel() {
      if let copy { try? Sys.unlinkat(targetDescriptor, copy.temporary) }
      _ = try? child?.updateRecord { $0.bindings = [oldBinding] }
      target.dropSidecar(place, kind, targetDescriptor)
    }

    /// Forgets the old name, once the entry has the new one. What fails here is only not tidied up.
    func settle() {
      home.dropSidecar(entry.backingName, entry.kind, homeDescriptor)
      if let child {
        child.place(in: target, name: name, backingName: place)
        _ = try? child.updateRecord { $0.bindings = [newBinding] }
      }
      if entry.mode == .container {
        context.containers.find(entry.identity)?.file.removeBinding(oldBinding)
      }
    }

    // MARK: Ways to the new names

    /// Each is stored under the other's name.
    func swap(with other: Side) throws(Errno) {
      let exchange = { () throws(Errno) in
        try Sys.renameat2(
          homeDescriptor, entry.backingName, targetDescriptor, other.entry.backingName,
          flags: .exchange)
      }
      try exchange()
      do throws(Errno) {
        try putCopy()
      } catch {
        // Else the copies stay, for whoever reads the links.
        if (try? exchange()) != nil { throw error }
        return
      }
      do throws(Errno) {
        try other.putCopy()
      } catch  where copy == nil {
        if (try? exchange()) != nil { throw error }
      } catch {
        // One of the links is in its place already, and this one's copy stays.
      }
    }

    private func putCopy() throws(Errno) {
      guard let copy else { return }
      try Sys.renameat2(targetDescriptor, copy.temporary, targetDescriptor, place)
    }

    private func undoPut() {
      if copy == nil {
        try? Sys.renameat2(targetDescriptor, place, homeDescriptor, entry.backingName)
      } else {
        try? Sys.unlinkat(targetDescriptor, place)
      }
    }

    /// The other's place is free only when this one has gone from it.
    func move(before other: Side) throws(Errno) {
      try moveOrPut()
      do throws(Errno) {
        // Replaces this one's old link, if it is one.
        try other.moveOrPut()
      } catch {
        undoPut()
        throw error
      }
      other.removeOld()
    }

    private func moveOrPut() throws(Errno) {
      if copy != nil { return try putCopy() }
      try Sys.renameat2(homeDescriptor, entry.backingName, targetDescriptor, place)
    }

    /// Removes the link that was copied.
    private func removeOld() {
      if copy != nil { try? Sys.unlinkat(homeDescriptor, entry.backingName) }
    }

    /// Both places are free. The entry that would hide the other one at its old name goes in one
    /// step, which shows the other there.
    func nameAnew(with other: Side) throws(Errno) {
      if entry.kind.rawValue < other.kind.rawValue { return try other.name(beside: self) }
      try name(beside: other)
    }

    private func name(beside mover: Side) throws(Errno) {
      let isLinked = try linkOrMove()
      do throws(Errno) {
        try Sys.renameat2(
          mover.homeDescriptor, mover.entry.backingName, mover.targetDescriptor, mover.place)
      } catch {
        if isLinked {
          try? Sys.unlinkat(targetDescriptor, place)
        } else {
          undoPut()
        }
        throw error
      }
      // Else the copy stays, for whoever reads the link.
      try? mover.putCopy()
      if isLinked { try? Sys.unlinkat(homeDescriptor, entry.backingName) }
    }

    /// - Returns: Whether the old name is still there.
    private func linkOrMove() throws(Errno) -> Bool {
      if copy != nil {
        try putCopy()
        return true
      }
      if entry.mode != .directory {
        do throws(Errno) {
          try Sys.linkat(homeDescriptor, entry.backingName, targetDescriptor, place)
          return true
        } catch .notPermitted, .notSupported {
          // A filesystem without hard links.
        }
      }
      try Sys.renameat2(homeDescriptor, entry.backingName, targetDescriptor, place)
      return false
    }
  }
}
