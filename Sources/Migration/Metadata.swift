import Primitives
import SystemPackage
import Vault

/// Everything a filesystem keeps about a file besides its content.
struct Metadata: Sendable {
  typealias Attribute = (name: [UInt8], value: [UInt8])

  var status: FileStatus
  var attributes: [Attribute]

  private static let listPrefix = Array("system.posix_acl_".utf8)
  /// Belongs to the place a file is in, not to the file.
  private static let label = Array("security.selinux".utf8)
  private static let lists = ["access", "default"].map { listPrefix + Array($0.utf8) }

  /// Reads what belongs to a file outside the vault.
  ///
  /// - Parameters:
  ///   - descriptor: The file, perhaps open with O_PATH.
  ///   - status: Its status.
  ///   - losses: Gets a line for each attribute that cannot be read.
  init(outside descriptor: Int32, _ status: FileStatus, losses: inout [String]) {
    self.status = status
    attributes = []
    let names = (try? Sys.listxattrPath(descriptor))?.split(separator: 0) ?? []
    for name in names.map({ Array($0) }) where name != Metadata.label {
      do throws(Errno) {
        attributes.append((name, try Sys.getxattrPath(descriptor, name)))
      } catch {
        losses.append("attribute \(String(decoding: name, as: UTF8.self)): \(error)")
      }
    }
  }

  /// Reads what belongs to an entry of the vault.
  init(_ attributes: Attributes, _ status: FileStatus, losses: inout [String]) {
    self.status = status
    self.attributes = []
    do throws(VaultError) {
      for name in try attributes.list() {
        self.attributes.append((name, try attributes.get(name)))
      }
    } catch {
      losses.append("attributes: \(TransferError.vault(error).text)")
    }
  }

  /// Whether there are no attributes but access control lists.
  var hasOnlyLists: Bool {
    attributes.allSatisfy { $0.name.starts(with: Metadata.listPrefix) }
  }

  /// What attributes are set on: an inode of the vault, or one outside.
  enum Target: Sendable {
    case vault(Attributes)
    case outside

    /// An attribute's value; nil if there is none.
    func get(_ name: [UInt8], _ descriptor: Int32) -> [UInt8]? {
      switch self {
      case .vault(let attributes): try? attributes.get(name)
      case .outside: try? Sys.getxattrPath(descriptor, name)
      }
    }

    func remove(_ name: [UInt8], _ descriptor: Int32) {
      switch self {
      case .vault(let attributes): try? attributes.remove(name)
      case .outside: try? Sys.removexattrPath(descriptor, name)
      }
    }

    func set(_ attribute: Attribute, _ descriptor: Int32) throws(TransferError) {
      switch self {
      case .vault(let attributes):
        try inVault { () throws(VaultError) in
          try attributes.set(attribute.name, attribute.value)
        }
      case .outside:
        try attempting("setting an attribute") { () throws(Errno) in
          try Sys.setxattrPath(descriptor, attribute.name, attribute.value)
        }
      }
    }
  }

  /// Gives it all to another inode: first the owner, which takes permissions and capabilities
  /// away, last the times, which everything else changes.
  ///
  /// - Parameters:
  ///   - descriptor: The inode, perhaps open with O_PATH.
  ///   - target: Where its attributes go.
  /// - Returns: What could not be kept.
  func apply(to descriptor: Int32, _ target: Target) -> [String] {
    var losses: [String] = []
    func keep(_ what: String, _ body: () throws(TransferError) -> Void) {
      do throws(TransferError) {
        try body()
      } catch {
        losses.append("\(what): \(error.text)")
      }
    }
    if let present = try? Sys.fstatx(descriptor),
      present.uid != status.uid || present.gid != status.gid
    {
      keep("owner") { () throws(TransferError) in
        try attempting("chown") { () throws(Errno) in
          try Sys.fchownat(descriptor, uid: status.uid, gid: status.gid)
        }
      }
    }
    let acls = attributes.filter { $0.name.starts(with: Metadata.listPrefix) }
    for list in Metadata.lists where !acls.contains(where: { $0.name == list }) {
      // Inherited from the directory it was made in.
      try? Sys.removexattrPath(descriptor, list)
    }
    for attribute in attributes where !attribute.name.starts(with: Metadata.listPrefix) {
      keep("attribute \(String(decoding: attribute.name, as: UTF8.self))") {
        () throws(TransferError) in
        try target.set(attribute, descriptor)
      }
    }
    if status.kind != .symbolicLink {
      keep("mode") { () throws(TransferError) in
        try attempting("chmod") { () throws(Errno) in
          try Sys.chmodPath(descriptor, mode: status.mode & 0o7777)
        }
      }
    }
    for acl in acls {
      keep("access control list") { () throws(TransferError) in
        try target.set(acl, descriptor)
      }
    }
    keep("times") { () throws(TransferError) in
      try attempting("utimensat") { () throws(Errno) in
        try setTimes(descriptor)
      }
    }
    return losses
  }

  func apply(to node: ReceivedNode) -> [String] {
    apply(to: node.descriptor.rawValue, node.target)
  }

  func setTimes(_ descriptor: Int32) throws(Errno) {
    try Sys.futimens(
      descriptor, access: .set(status.atime), modification: .set(status.mtime))
  }
}

extension FileStatus {
  /// Whether nothing was written to a file, or done to its inode, between two looks.
  func isUnchanged(since before: FileStatus) -> Bool {
    device == before.device && inode == before.inode && size == before.size
      && mtime == before.mtime && ctime == before.ctime
  }

  var identity: InodeIdentity { InodeIdentity(device: device, inode: inode) }
}
