import Primitives
import SystemPackage

extension Checker {
  // MARK: Records

  /// Compares a directory's record with its copies.
  func checkRecord(of directory: VaultDirectory, _ descriptor: Int32) {
    let file = storedRecord { () throws(Errno) in
      let file = try self.context.openForReading(descriptor, Format.recordName)
      return try readWhole(file.rawValue, limit: Format.maximumRecord + 1)
    }
    let attribute = storedRecord { () throws(Errno) in
      try Sys.getxattrPath(descriptor, Format.recordAttribute)
    }
    let path = directory.parent == nil ? [UInt8(ascii: "/")] : directory.path
    let rewrite = { () throws(VaultError) -> String in
      // A directory in its place would not let itself be replaced.
      if let kind = try? Sys.statx(descriptor, Format.recordName, fields: .type).kind,
        kind != .regular
      {
        _ = try self.quarantine.take(Format.recordName, from: descriptor, id: directory.id)
      }
      try directory.updateRecord { $0.serial &+= 1 }
      return "written anew"
    }
    switch (file, attribute) {
    case (.valid(let first), .valid(let second)) where first != second:
      found(.harmless, path, "the two copies of the directory's record differ", rewrite)
    case (.valid, .invalid):
      found(.harmless, path, "the record's copy in an attribute is damaged", rewrite)
    case (.missing, .valid):
      found(.harmless, path, "the record's file is missing; its copy counts", rewrite)
    case (.invalid, .valid):
      found(.harmless, path, "the record's file is damaged; its copy counts", rewrite)
    case (.valid, _): break
    case (_, .missing), (_, .invalid):
      found(
        .harmless, path, "the record is missing; one that a tool set aside counts", rewrite)
    }
    if directory.record.bindings.count > 1 {
      let place =
        directory.parent.map { context.keys.binding(of: directory.name, in: $0.id) }
        ?? context.keys.rootBinding
      found(.harmless, path, "the record still names the place it was moved from") {
        () throws(VaultError) in
        try directory.updateRecord { $0.bindings = [place] }
        return "the old place was dropped"
      }
    }
  }

  private enum StoredRecord {
    case missing
    case invalid
    case valid(DirectoryRecord)
  }

  private func storedRecord(_ load: () throws(Errno) -> [UInt8]) -> StoredRecord {
    do throws(Errno) {
      return DirectoryRecord(opening: try load(), with: context.keys).map(StoredRecord.valid)
        ?? .invalid
    } catch .noSuchFileOrDirectory {
      return .missing
    } catch Attributes.noData {
      return .missing
    } catch .notSupported {
      return .missing
    } catch {
      return .invalid
    }
  }

  // MARK: Names that are no entries

  /// Judges a record, a temporary name, a sidecar.
  func checkReserved(
    _ name: [UInt8], among names: Set<[UInt8]>, in directory: VaultDirectory, _ descriptor: Int32
  ) {
    if name == Format.recordName { return }
    let path = path(ofBacking: name, in: directory)
    let moveAside = { () throws(VaultError) -> String in
      "moved to \(try self.quarantine.take(name, from: descriptor, id: directory.id))"
    }
    if name.starts(with: Format.temporaryPrefix) || name == Format.newRecordName {
      found(.harmless, path, "left over from an interrupted change", moveAside)
    } else if VaultDirectory.isAlternate(name) {
      let opens = (try? VaultDirectory.loadAlternates(descriptor, context))?.contains {
        $0.name == name
      }
      if opens == true {
        found(.note, path, "a conflict copy of the directory's record; its names are shown too")
      } else {
        found(.damage, path, "a conflict copy of a record that does not authenticate", moveAside)
      }
    } else if directory.isSidecar(name), !directory.isSidecarUsed(name, among: names) {
      found(.harmless, path, "the full form of a long name that no entry has", moveAside)
    }
  }

  /// Reports a name that means nothing in its directory.
  func checkUnknown(_ name: [UInt8], in directory: VaultDirectory) {
    let path = path(ofBacking: name, in: directory)
    if directory.sidecarName(of: name) != nil {
      // It can still be opened by who knows the name, which restores the sidecar.
      found(.damage, path, "a long name whose full form is lost; opening it by name restores it")
      return
    }
    found(.damage, path, "the name is not one this directory has") { () throws(VaultError) in
      try self.setAside(name, in: directory)
    }
  }

  func path(ofBacking name: [UInt8], in directory: VaultDirectory) -> [UInt8] {
    let place = directory.path
    return place + [UInt8(ascii: "/")] + name
  }
}

extension VaultDirectory {
  private var hashPrefix: [UInt8] {
    namePolicy == .sealed ? [Format.longPrefix] : Format.plainLongPrefix
  }

  /// The directory open for listing, in a vault that may only be read.
  func openListing() throws(VaultError) -> SharedFD {
    if context.isWritable { return try reopened() }
    let handle = try descriptor()
    defer { withExtendedLifetime(handle) {} }
    return try attempt("opening a directory") { () throws(Errno) in
      SharedFD(
        try context.openForReading(handle.rawValue, [UInt8(ascii: ".")], .directory))
    }
  }

  /// Whether a name is that of a sidecar.
  func isSidecar(_ name: [UInt8]) -> Bool {
    name.starts(with: hashPrefix) && name.hasSuffix(Format.sidecarSuffix)
      && name.count == hashPrefix.count + Format.hashCount + Format.sidecarSuffix.count
  }

  /// The sidecar that a hashed backing name needs; nil for other names.
  func sidecarName(of backingName: [UInt8]) -> [UInt8]? {
    let stem = hashPrefix.count + Format.hashCount
    guard backingName.starts(with: hashPrefix), backingName.count >= stem else { return nil }
    let suffix = Array(backingName[stem...])
    guard EntryKind.allCases.contains(where: { $0.suffix(namePolicy) == suffix }) else {
      return nil
    }
    return backingName[..<stem] + Format.sidecarSuffix
  }

  private func users(of sidecar: [UInt8]) -> [[UInt8]] {
    let stem = sidecar[..<(sidecar.count - Format.sidecarSuffix.count)]
    return EntryKind.allCases.compactMap { kind in kind.suffix(namePolicy).map { stem + $0 } }
  }

  func isSidecarUsed(_ sidecar: [UInt8], among names: Set<[UInt8]>) -> Bool {
    users(of: sidecar).contains { names.contains($0) }
  }

  func isSidecarUsed(_ sidecar: [UInt8], _ directory: Int32) -> Bool {
    users(of: sidecar).contains { (try? Sys.statx(directory, $0, fields: .type)) != nil }
  }
}
