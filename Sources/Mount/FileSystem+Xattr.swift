import Container
import Glibc
import Primitives
import SystemPackage
import Vault

extension FileSystem {
  /// Names answered by the mount itself. They are not listed, so that copying tools leave them alone.
  private static let ownPrefix = Array("user.scrim.".utf8)

  private static func isOwn(_ name: [UInt8]) -> Bool { name.starts(with: ownPrefix) }

  /// GETXATTR.
  func attribute(_ nodeid: UInt64, _ name: [UInt8]) throws -> [UInt8] {
    let inode = try inode(nodeid)
    if Self.isOwn(name) { return try ownAttribute(inode, name) }
    return try attributes(of: inode).get(name)
  }

  /// SETXATTR.
  func setAttribute(
    _ nodeid: UInt64, _ name: [UInt8], _ value: [UInt8], mode: Sys.AttributeMode
  ) throws {
    try requireWritable()
    let inode = try inode(nodeid)
    if Self.isOwn(name) { return try setOwnAttribute(inode, name, value) }
    try attributes(of: inode).set(name, value, mode: mode)
  }

  /// LISTXATTR: the names, each ended by a zero byte.
  func attributeNames(_ nodeid: UInt64) throws -> [UInt8] {
    let names = try attributes(of: try inode(nodeid)).list()
    return names.flatMap { Self.isOwn($0) ? [] : $0 + [0] }
  }

  /// REMOVEXATTR.
  func removeAttribute(_ nodeid: UInt64, _ name: [UInt8]) throws {
    try requireWritable()
    let inode = try inode(nodeid)
    guard !Self.isOwn(name) else { throw Errno.notPermitted }
    try attributes(of: inode).remove(name)
  }

  /// The stored attributes of an inode: of an open container also after its name is gone.
  private func attributes(of inode: Inode) throws -> Attributes {
    if let stored = inode.file?.sharedStored() { return stored.attributes }
    if case .directory = inode.mode { return try directory(inode).attributes() }
    let place = try locate(inode)
    return try place.directory.attributes(of: place.entry)
  }
}
