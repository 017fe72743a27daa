import Container
import Primitives
import SystemPackage

extension Checker {
  /// Checks a container: whether it belongs here, its header, tree, hint and attributes.
  func check(container entry: VaultEntry, in directory: VaultDirectory, _ path: [UInt8]) {
    let container: VaultContainer
    do throws(VaultError) {
      container = try directory.openContainer(entry)
    } catch .container(.damaged(let damage)) {
      return broken(entry, in: directory, path, damage.description)
    } catch .damaged(let reason) {
      return broken(entry, in: directory, path, reason)
    } catch {
      return failed(path, error)
    }
    checkCommit(container, entry, path)
    checkBindings(container, entry, in: directory, path)
    checkHint(container, entry, path)
    do throws(VaultError) {
      let damages = try verify(container, entry)
      if !damages.isEmpty {
        return broken(entry, in: directory, path, Checker.summary(of: damages))
      }
      if entry.mode == .longLink {
        _ = try directory.readLink(entry)
      } else {
        checkAttributes(container.attributes, path)
      }
    } catch .damaged(let reason) {
      broken(entry, in: directory, path, reason)
    } catch {
      failed(path, error)
    }
  }

  private func verify(
    _ container: VaultContainer, _ entry: VaultEntry
  ) throws(VaultError) -> [Damage] {
    if entry.status.links > 1, !verified.insert(entry.identity).inserted { return [] }
    return try attempt { () throws(ContainerError) in
      try container.file.verify(deep: options.isDeep) { self.note(bytes: $0) }
    }
  }

  private static func summary(of damages: [Damage]) -> String {
    let first = damages.prefix(3).map(\.description).joined(separator: ", ")
    return damages.count > 3 ? "\(first) and \(damages.count - 3) more" : first
  }

  // MARK: Traces of interruptions

  private func checkCommit(_ container: VaultContainer, _ entry: VaultEntry, _ path: [UInt8]) {
    guard container.file.healed else {
      if container.file.isExposed {
        found(.note, path, "its first state would count again if the newest were taken away") {
          () throws(VaultError) in
          try self.store(container, entry)
          return "covered"
        }
      }
      return
    }
    found(.harmless, path, "a crash cut its last commit short; the one before counts") {
      () throws(VaultError) in
      try self.store(container, entry)
      return "committed anew"
    }
  }

  /// Brings changes to the medium, and makes them the only state of the file there.
  private func store(_ container: VaultContainer, _ entry: VaultEntry) throws(VaultError) {
    try container.sync(modificationTime: entry.status.mtime)
    container.file.endExposure()
    try container.commit(modificationTime: entry.status.mtime)
  }

  private func checkBindings(
    _ container: VaultContainer, _ entry: VaultEntry, in directory: VaultDirectory,
    _ path: [UInt8]
  ) {
    let accepted = directory.acceptedBindings(entry)
    let present = container.file.bindings
    guard !container.file.bindingsOverflow, entry.status.links == 1, present.count > 1,
      let own = accepted.first(where: { present.contains($0) })
    else {
      if container.file.hasChanges, !container.file.healed {
        // `openContainer` has added the binding that a crash lost.
        found(.harmless, path, "a crash lost the tie to its name") { () throws(VaultError) in
          try self.store(container, entry)
          return "tied anew"
        }
      }
      return
    }
    // Ordinary after a rename: the old name goes with the next commit.
    found(.note, path, "still tied to a name it had before") { () throws(VaultError) in
      container.file.setBindings([own], overflow: false)
      try self.store(container, entry)
      return "the old name was dropped"
    }
  }

  private func checkHint(_ container: VaultContainer, _ entry: VaultEntry, _ path: [UInt8]) {
    let descriptor = container.descriptor.rawValue
    guard let bytes = try? Sys.fgetxattr(descriptor, Format.hintAttribute),
      let status = try? Sys.fstatx(descriptor, fields: .size)
    else { return }
    let drop = { () throws(VaultError) -> String in
      try attempt("removing a size hint") { () throws(Errno) in
        try Sys.fremovexattr(descriptor, Format.hintAttribute)
      }
      return "removed"
    }
    guard let hint = SizeHint(opening: bytes, with: context.keys, inode: entry.identity.inode)
    else {
      // A copy of the vault has other inodes; such hints are ignored.
      return found(.note, path, "its size hint is for another file", drop)
    }
    if hint.backingLength == status.size, hint.size != container.file.size {
      found(.harmless, path, "its size hint is stale", drop)
    }
  }

  // MARK: Salvage

  /// Reports a damaged container; repair saves what can be read under another name.
  private func broken(
    _ entry: VaultEntry, in directory: VaultDirectory, _ path: [UInt8], _ reason: String
  ) {
    found(.damage, path, reason) { () throws(VaultError) in
      let saved = entry.mode == .longLink ? nil : try self.salvage(entry, in: directory)
      let moved = try self.setAside(entry.backingName, in: directory)
      return saved.map { "\($0), the damaged file was \(moved)" } ?? moved
    }
  }

  private func salvage(
    _ entry: VaultEntry, in directory: VaultDirectory
  ) throws(VaultError) -> String? {
    let handle = try directory.descriptor()
    defer { withExtendedLifetime(handle) {} }
    let file = try attempt("opening a damaged file") { () throws(Errno) in
      SharedFD(try Sys.openat(handle.rawValue, entry.backingName, [.readOnly, .noFollow]))
    }
    let found = try attempt { () throws(ContainerError) in
      try ContainerSalvage(store: FileBlockStore(file), keys: context.keys.content)
    }
    guard let found else { return nil }
    let name = try freeName(like: entry.name, in: directory)
    let created = try directory.createFile(
      name, mode: entry.status.mode & 0o7777,
      owner: Owner(uid: entry.status.uid, gid: entry.status.gid), policy: found.policy)
    guard let container = created.container else { return nil }
    let result: ContainerSalvage.Result
    do throws(VaultError) {
      result = try attempt { () throws(ContainerError) in
        try found.copy(into: container.file) { self.note(bytes: $0) }
      }
      copyAttributes(of: file, found.fileID, to: container)
      try container.sync(modificationTime: entry.status.mtime)
    } catch {
      _ = try? directory.removeFile(name)
      throw error
    }
    let shown = String(decoding: name, as: UTF8.self)
    return "saved \(result.kept) of \(result.kept + result.lost) blocks as \(shown)"
  }

  /// The sealed attributes that still open belong to the file by its ID.
  private func copyAttributes(of file: SharedFD, _ id: FileID, to container: VaultContainer) {
    let old = Attributes(
      context: context, descriptor: file, scheme: .sealed { () throws(VaultError) in id.bytes })
    for name in (try? old.list()) ?? [] {
      guard let value = try? old.get(name) else { continue }
      try? container.attributes.set(name, value)
    }
  }

  private func freeName(
    like name: [UInt8], in directory: VaultDirectory
  ) throws(VaultError) -> [UInt8] {
    for number in 1..<1000 {
      let suffix = [UInt8]((number == 1 ? ".salvaged" : ".salvaged-\(number)").utf8)
      let candidate = name.prefix(Format.maximumName - suffix.count) + suffix
      if try directory.lookup(Array(candidate)) == nil { return Array(candidate) }
    }
    throw .system(.fileExists, "no name is free for what was saved")
  }
}
