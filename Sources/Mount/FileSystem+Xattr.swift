import Container
import Glibc
import Primitives
import Synchronization
import SystemPackage
import Vault

extension FileSystem {
  /// Names answered by the mount itself. They are not listed, so that copying tools leave them alone.
  private static let ownPrefix = Array("user.scrim.".utf8)

  private static let trustedPrefix = Array("trusted.".utf8)
  static let accessList = Array("system.posix_acl_access".utf8)

  private static func isOwn(_ name: [UInt8]) -> Bool { name.starts(with: ownPrefix) }

  /// GETXATTR.
  func attribute(_ nodeid: UInt64, _ name: [UInt8]) throws -> [UInt8] {
    let inode = try inode(nodeid)
    if Self.isOwn(name) { return try ownAttribute(inode, name) }
    if inode.attributes.load(ordering: .relaxed) == .absent { throw MountFailure.noAttribute }
    let attributes = try attributes(of: inode)
    if try isEmpty(attributes, of: inode) { throw MountFailure.noAttribute }
    return try attributes.get(name)
  }

  /// Whether a container has no attributes at all. Looked up once: the kernel asks for one before the first write,
  /// and whoever lists a directory asks for several of each file.
  private func isEmpty(_ attributes: Attributes, of inode: Inode) throws -> Bool {
    guard case .container = inode.mode, inode.attributes.load(ordering: .relaxed) == .unknown else {
      return false
    }
    let found: Inode.Presence = try attributes.isEmpty() ? .absent : .present
    // One that is being set meanwhile has been noted as present already.
    return inode.attributes.compareExchange(
      expected: .unknown, desired: found, ordering: .relaxed
    ).original == .unknown && found == .absent
  }

  /// SETXATTR.
  func setAttribute(
    _ nodeid: UInt64, _ name: [UInt8], _ value: [UInt8], mode: Sys.AttributeMode,
    by writer: Writer
  ) throws {
    try requireWritable()
    let inode = try inode(nodeid)
    if Self.isOwn(name) { return try setOwnAttribute(inode, name, value, writer.caller) }
    try beginChange(inode)
    defer { endChange(inode) }
    defer { forget(name, of: inode) }
    inode.attributes.store(.present, ordering: .relaxed)
    try attributes(of: inode).set(name, value, mode: mode)
    if name == Self.accessList { try dropGroupBit(inode, by: writer) }
  }

  /// Takes sgid off after an access list was set by an owner who is a stranger to the file's group, as chmod(2)
  /// would. The kernel asks for it only by an extension that libfuse 3.14 does not offer.
  private func dropGroupBit(_ inode: Inode, by writer: Writer) throws {
    try withNode(inode) { node in
      let status = try Sys.fstatx(node, fields: .basic)
      guard status.mode & UInt32(S_ISGID) != 0, !writer.isMember(of: status.gid) else { return }
      try Sys.chmodPath(node, mode: status.mode & 0o7777 & ~UInt32(S_ISGID))
    }
  }

  /// LISTXATTR: the names, each ended by a zero byte. Trusted ones are for root's eyes only.
  func attributeNames(_ nodeid: UInt64, _ caller: Caller) throws -> [UInt8] {
    let names = try attributes(of: try inode(nodeid)).list()
    return names.flatMap { name in
      let isHidden =
        Self.isOwn(name) || (caller.uid != 0 && name.starts(with: Self.trustedPrefix))
      return isHidden ? [] : name + [0]
    }
  }

  /// REMOVEXATTR.
  func removeAttribute(_ nodeid: UInt64, _ name: [UInt8]) throws {
    try requireWritable()
    let inode = try inode(nodeid)
    guard !Self.isOwn(name) else { throw Errno.notPermitted }
    try beginChange(inode)
    defer { endChange(inode) }
    defer { forget(name, of: inode) }
    try attributes(of: inode).remove(name)
  }

  /// Forgets what was known of an attribute that may have changed.
  private func forget(_ name: [UInt8], of inode: Inode) {
    if name == Self.defaultList { inode.defaultList.store(.unknown, ordering: .relaxed) }
  }

  /// The stored attributes of an inode: of an open container also after its name is gone.
  private func attributes(of inode: Inode) throws -> Attributes {
    if let stored = inode.file?.sharedStored() { return stored.attributes }
    if case .plain = inode.mode, let descriptor = inode.file?.sharedDescriptor() {
      return vault.attributes(ofPlainFile: descriptor)
    }
    if case .directory = inode.mode { return try directory(inode).attributes() }
    let place = try locate(inode)
    return try place.directory.attributes(of: place.entry)
  }
}
