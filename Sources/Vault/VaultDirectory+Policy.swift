public import Container
import Primitives
import SystemPackage

extension VaultDirectory {
  /// Changes what happens to new files here. Present entries stay as they are; the record says that
  /// they may.
  ///
  /// - Parameters:
  ///   - content: The policy of new files; nil to keep it.
  ///   - names: The policy of names, only changed in an empty directory; nil to keep it.
  ///   - rules: Exceptions by name, at most 32; nil to keep them.
  /// - Throws: `.system` (`.directoryNotEmpty`, `.invalidArgument`), `.readOnly`.
  public func setPolicy(
    content: ContentPolicy? = nil, names: NamePolicy? = nil, rules: [ContentRule]? = nil
  ) throws(VaultError) {
    guard rules?.count ?? 0 <= Format.maximumRules else {
      throw .system(.invalidArgument, "a directory has at most 32 rules")
    }
    try changing { (directory) throws(VaultError) in
      let before = try viewWithAlternates().record
      if let names, names != before.names, try !isEmpty(directory) {
        throw .system(.directoryNotEmpty, "the name policy of a directory with entries")
      }
      let present = try presentFlags()
      let stored = try attributes()
      let kept = try ownAttributes(stored)
      let wasNative = isNative
      try updateRecord { record in
        if let content { record.content = content }
        if let names { record.names = names }
        if let rules { record.rules = rules }
        record.flags = present
      }
      if wasNative != isNative { try restore(kept, replacing: stored) }
      // An older state of this record that a synchronising tool kept would go on being stricter.
      for (name, record) in try VaultDirectory.loadAlternates(directory, context)
      where record.id == id {
        try? Sys.unlinkat(directory, name)
      }
      nameCache.removeAll()
    }
  }

  /// Gives a directory, which is empty if names are stored otherwise, the policies and rules of another one.
  ///
  /// - Throws: `.system`, `.readOnly`.
  public func takePolicy(of other: VaultDirectory) throws(VaultError) {
    let (mine, theirs) = (record, other.record)
    if mine.content == theirs.content, mine.names == theirs.names, mine.rules == theirs.rules {
      return
    }
    try setPolicy(content: theirs.content, names: theirs.names, rules: theirs.rules)
  }

  /// Takes back what the record allows but no entry needs any more, after files were converted.
  ///
  /// - Throws: `.system`, `.readOnly`.
  public func refreshPresence() throws(VaultError) {
    try changing { (_) throws(VaultError) in
      let present = try presentFlags()
      try updateRecord { $0.flags = present }
    }
  }

  /// The kinds of entries there are, among those that are allowed: what was planted stays refused.
  private func presentFlags() throws(VaultError) -> PresenceFlags {
    var flags: PresenceFlags = []
    let terms = view.terms
    let handle = try descriptor()
    defer { withExtendedLifetime(handle) {} }
    let directory = handle.rawValue
    for item in try list() {
      guard let kind = item.entryKind else { continue }
      switch VaultDirectory.mode(kind, item.kind, terms) {
      case .plain: flags.insert(.plainFiles)
      case .container: flags.insert(.containers)
      case .special: flags.insert(.specialFiles)
      case .longLink: flags.insert(.longLinks)
      case .symbolicLink:
        let target = try? Sys.readlinkat(directory, item.backingName)
        if let target, !target.starts(with: Format.sealedTargetPrefix) {
          flags.insert(.plainTargets)
        }
      case .directory: break
      case nil where kind == .longLink: flags.insert(.longLinks)
      case nil: break
      }
    }
    return flags.intersection(terms.allowed)
  }

  // MARK: Attributes of the directory

  private typealias Attribute = (name: [UInt8], value: [UInt8])

  private func ownAttributes(_ attributes: Attributes) throws(VaultError) -> [Attribute] {
    var kept: [Attribute] = []
    for name in try attributes.list() where !name.starts(with: Format.systemAttributePrefix) {
      kept.append((name, try attributes.get(name)))
    }
    return kept
  }

  /// Stores them in the form of the new policy instead of the old one.
  private func restore(_ kept: [Attribute], replacing old: Attributes) throws(VaultError) {
    let attributes = try attributes()
    for (name, value) in kept {
      try attributes.set(name, value)
      try old.remove(name)
    }
  }

  // MARK: Repair

  /// Gives a directory without a valid record one, as its owner decides: a directory that another
  /// program made among plain files, or one whose record was moved or lost.
  ///
  /// - Parameter entry: The directory, as `lookup` found it. A record of this vault that is only
  ///   bound to another place is kept and bound to this one; else it gets this one's policies.
  /// - Returns: The directory.
  /// - Throws: `.system`, `.damaged`, `.readOnly`.
  public func adoptDirectory(_ entry: VaultEntry) throws(VaultError) -> VaultDirectory {
    guard entry.mode == .directory else { throw .system(.notDirectory, "adopting a directory") }
    try changing { (directory) throws(VaultError) in
      let opened = try attempt("opening a directory") { () throws(Errno) in
        try Sys.openat(directory, entry.backingName, [.path, .directory, .noFollow])
      }
      let binding = context.keys.binding(of: entry.origin.name, in: entry.origin.directory)
      let stored = try RecordFile.load(opened.rawValue, context)
      var record = view.record.child(at: binding)
      if let own = stored.records.max(by: { $0.serial < $1.serial }) {
        if own.bindings.contains(binding) { return }
        record = own
        record.serial &+= 1
        record.bindings = [binding]
      }
      try RecordFile.store(record, keys: context.keys, in: opened.rawValue, durable: true)
    }
    return try openDirectory(entry)
  }
}
