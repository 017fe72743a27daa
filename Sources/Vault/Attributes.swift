import Container
public import Primitives
import Synchronization
import SystemPackage

/// The extended attributes of one inode, sealed or as they are (format §9).
///
/// Names are full names such as `user.comment`. Errors are those of getxattr(2) and its siblings.
public struct Attributes: Sendable {
  enum Scheme: Sendable {
    /// Stored as they are.
    case plain
    /// Names and values are sealed; the bytes say what they belong to.
    case sealed(@Sendable () throws(VaultError) -> [UInt8])
  }

  let context: VaultContext
  let descriptor: SharedFD
  let scheme: Scheme
  /// The open container they belong to, if they do.
  var container: VaultContainer?

  private static let prefixes = ["user.", "trusted.", "security."].map { [UInt8]($0.utf8) }
  private static let ownInfix = Format.bytes("scrim.")

  /// Reads an attribute.
  ///
  /// - Parameter name: Its full name.
  /// - Returns: Its value.
  /// - Throws: `.system(.noData)` if there is none, `.damaged` if it does not open.
  public func get(_ name: [UInt8]) throws(VaultError) -> [UInt8] {
    guard let stored = try storedName(name) else {
      throw .system(Attributes.noData, "no such attribute")
    }
    let value = try attempt("reading an attribute") { () throws(Errno) in
      container == nil
        ? try Sys.getxattrPath(descriptor.rawValue, stored.name)
        : try Sys.fgetxattr(descriptor.rawValue, stored.name)
    }
    guard stored.isSealed else { return value }
    return try open(value, stored.name)
  }

  /// Creates or replaces an attribute.
  ///
  /// - Parameters:
  ///   - name: Its full name.
  ///   - value: Its value.
  ///   - mode: Whether it must or must not exist.
  /// - Throws: `.system` (`.notSupported` for a name the vault keeps for itself, `.outOfRange` for
  ///   one that is too long once sealed), `.readOnly`.
  public func set(
    _ name: [UInt8], _ value: [UInt8], mode: Sys.AttributeMode = .any
  ) throws(VaultError) {
    try context.requireWritable()
    guard let stored = try storedName(name) else {
      throw .system(.notSupported, "an attribute that cannot be set here")
    }
    guard stored.name.count <= 255 else {
      throw .system(.outOfRange, "the attribute's name is too long to be sealed")
    }
    let bytes = stored.isSealed ? try seal(value, stored.name) : value
    try attempt("setting an attribute") { () throws(Errno) in
      try Sys.setxattrPath(descriptor.rawValue, stored.name, bytes, mode: mode)
    }
  }

  /// Removes an attribute.
  ///
  /// - Parameter name: Its full name.
  /// - Throws: `.system(.noData)` if there is none, `.readOnly`.
  public func remove(_ name: [UInt8]) throws(VaultError) {
    try context.requireWritable()
    guard let stored = try storedName(name) else {
      throw .system(Attributes.noData, "no such attribute")
    }
    try attempt("removing an attribute") { () throws(Errno) in
      try Sys.removexattrPath(descriptor.rawValue, stored.name)
    }
  }

  /// The full names of all attributes. What the vault keeps for itself is left out, and so is what
  /// is not sealed where it should be.
  ///
  /// - Throws: `.system`, `.damaged` for a sealed name that does not open.
  public func list() throws(VaultError) -> [[UInt8]] {
    var names: [[UInt8]] = []
    for stored in try storedNames() {
      if let name = try plainName(stored) { names.append(name) }
    }
    return names
  }

  /// Stored names of sealed attributes that do not open, and what is wrong with each.
  ///
  /// - Throws: `.system`.
  func damaged() throws(VaultError) -> [(stored: [UInt8], reason: String)] {
    var found: [(stored: [UInt8], reason: String)] = []
    for stored in try storedNames() {
      do throws(VaultError) {
        if let name = try plainName(stored) { _ = try get(name) }
      } catch .damaged(let reason) {
        found.append((stored, reason))
      }
    }
    return found
  }

  /// Gives an attribute a name that readers ignore.
  ///
  /// - Parameter stored: Its name as it is stored.
  /// - Throws: `.system`, `.readOnly`.
  func putAside(_ stored: [UInt8]) throws(VaultError) {
    try context.requireWritable()
    let prefix = stored.prefix { $0 != UInt8(ascii: ".") }
    let name = prefix + Format.bytes(".scrim.damaged.") + Base64URL.encode(Random.bytes(12))
    try attempt("putting an attribute aside") { () throws(Errno) in
      let value = try Sys.getxattrPath(descriptor.rawValue, stored)
      try Sys.setxattrPath(descriptor.rawValue, Array(name), value, mode: .any)
      try Sys.removexattrPath(descriptor.rawValue, stored)
    }
  }

  /// Whether there is nothing that `get` could find, access lists included.
  ///
  /// - Throws: `.system`.
  public func isEmpty() throws(VaultError) -> Bool {
    for stored in try storedNames() {
      do throws(VaultError) {
        if try plainName(stored) != nil { return false }
      } catch {
        // What does not open is there all the same.
        return false
      }
    }
    return true
  }

  private func storedNames() throws(VaultError) -> [[UInt8]] {
    do {
      return try Sys.listxattrPath(descriptor.rawValue).split(separator: 0).map { Array($0) }
    } catch .notSupported {
      return []
    } catch {
      throw .system(error, "listing attributes")
    }
  }

  // MARK: Names

  /// ENODATA.
  static let noData = Errno(rawValue: 61)

  /// The stored name; nil for names that cannot exist here.
  private func storedName(
    _ name: [UInt8]
  ) throws(VaultError) -> (name: [UInt8], isSealed: Bool)? {
    guard !name.contains(0) else { return nil }
    guard let prefix = Attributes.prefixes.first(where: { name.starts(with: $0) }) else {
      // ACLs: the backing filesystem enforces them.
      return (name, false)
    }
    switch scheme {
    case .plain:
      return name[prefix.count...].starts(with: Attributes.ownInfix) ? nil : (name, false)
    case .sealed:
      if name.starts(with: Format.ownAttributePrefix) || name.count == prefix.count { return nil }
      do {
        let sealed = try context.keys.attributeNames.seal(
          Array(name[prefix.count...]), associatedData: [])
        return (prefix + Format.sealedAttributeInfix + Base64URL.encode(sealed), true)
      } catch {
        throw .system(.noMemory, "sealing an attribute's name")
      }
    }
  }

  /// What a stored name stands for; nil if it is not shown.
  private func plainName(_ stored: [UInt8]) throws(VaultError) -> [UInt8]? {
    guard let prefix = Attributes.prefixes.first(where: { stored.starts(with: $0) }) else {
      return stored
    }
    let rest = stored[prefix.count...]
    switch scheme {
    case .plain: return rest.starts(with: Attributes.ownInfix) ? nil : stored
    case .sealed:
      guard rest.starts(with: Format.sealedAttributeInfix) else { return nil }
      guard
        let sealed = Base64URL.decode(Array(rest.dropFirst(Format.sealedAttributeInfix.count))),
        let name = try? context.keys.attributeNames.open(sealed, associatedData: [])
      else { throw .damaged("an attribute's name does not authenticate") }
      return prefix + name
    }
  }

  // MARK: Values

  private func associatedData(_ stored: [UInt8]) throws(VaultError) -> [UInt8] {
    guard case .sealed(let owner) = scheme else { return stored }
    return stored + (try owner())
  }

  private func seal(_ value: [UInt8], _ stored: [UInt8]) throws(VaultError) -> [UInt8] {
    let data = try associatedData(stored)
    do {
      let parts = try context.keys.attributes.seal(value, associatedData: data)
      return parts.nonce + parts.body + parts.tag
    } catch {
      throw .system(.noMemory, "sealing an attribute")
    }
  }

  private func open(_ bytes: [UInt8], _ stored: [UInt8]) throws(VaultError) -> [UInt8] {
    let data = try associatedData(stored)
    guard bytes.count >= 28 else { throw .damaged("an attribute does not authenticate") }
    let parts = Sealer.Parts(
      nonce: Array(bytes[..<12]), tag: Array(bytes[(bytes.count - 16)...]),
      body: Array(bytes[12..<(bytes.count - 16)]))
    do {
      return try context.keys.attributes.open(parts, associatedData: data)
    } catch {
      throw .damaged("an attribute does not authenticate")
    }
  }
}

extension VaultDirectory {
  /// The attributes of this directory itself.
  ///
  /// - Throws: `.system`.
  public func attributes() throws(VaultError) -> Attributes {
    let id = id.bytes
    return Attributes(
      context: context, descriptor: try descriptor(),
      scheme: isNative ? .plain : .sealed { () throws(VaultError) in id })
  }

  /// The attributes of an entry.
  ///
  /// - Parameter entry: What `lookup` found here.
  /// - Returns: Its attributes.
  /// - Throws: `.system` (`.staleNFSFileHandle`), `.damaged` for a directory without a valid record.
  public func attributes(of entry: VaultEntry) throws(VaultError) -> Attributes {
    switch entry.mode {
    case .directory: return try openDirectory(entry).attributes()
    case .plain:
      return Attributes(context: context, descriptor: try openNode(entry), scheme: .plain)
    case .special, .symbolicLink:
      return Attributes(
        context: context, descriptor: try openNode(entry),
        scheme: isNative ? .plain : .sealed { () throws(VaultError) in [] })
    case .container, .longLink:
      if let open = context.containers.find(entry.identity) { return open.attributes }
      // Opened only when there is a value to open or to seal.
      return Attributes(
        context: context, descriptor: try openNode(entry),
        scheme: .sealed { () throws(VaultError) in try self.storedFileID(entry) })
    }
  }

  /// A file that was never committed has an ID only in memory: it gets its header first.
  private func storedFileID(_ entry: VaultEntry) throws(VaultError) -> [UInt8] {
    let container = try openContainer(entry)
    if context.isWritable, container.file.commitNumber == 0 { try container.commit() }
    return container.file.fileID.bytes
  }
}

extension VaultContainer {
  /// The attributes of an open container, also of one whose name is gone.
  public var attributes: Attributes {
    Attributes(
      context: context, descriptor: descriptor,
      scheme: .sealed { () throws(VaultError) in
        if self.context.isWritable, self.file.commitNumber == 0 { try self.commit() }
        return self.file.fileID.bytes
      }, container: self)
  }
}
