import Container
import Primitives
import SystemPackage
import Vault

/// A directory of a vault that nobody else writes to.
final class VaultReceiver: Receiver {
  private let vault: Vault
  private let directory: VaultDirectory

  init(_ vault: Vault, _ directory: VaultDirectory) {
    self.vault = vault
    self.directory = directory
  }

  func find(_ name: [UInt8]) throws(TransferError) -> Received? {
    try inVault { () throws(VaultError) -> Received? in
      guard let entry = try directory.lookup(name) else { return nil }
      let kind =
        switch entry.mode {
        case .plain, .container: FileKind.regular
        case .symbolicLink, .longLink: FileKind.symbolicLink
        case .directory, .special: entry.status.kind
        }
      return Received(
        kind: kind, identity: entry.identity, modified: entry.status.mtime,
        size: try? directory.plainSize(entry))
    }
  }

  func enter(_ name: [UInt8]) throws(TransferError) -> any Receiver {
    VaultReceiver(
      vault, try inVault { () throws(VaultError) in try directory.openDirectory(named: name) })
  }

  func makeFolder(_ name: [UInt8], mode: UInt32) throws(TransferError) -> any Receiver {
    VaultReceiver(
      vault,
      try inVault { () throws(VaultError) in
        try directory.makeDirectory(name, mode: mode, owner: nil).directory
      })
  }

  func policy(for name: [UInt8]) -> ContentPolicy { directory.record.policy(for: name) }

  func removeLeftovers() throws(TransferError) {
    try inVault { () throws(VaultError) in try directory.removeLeftovers() }
  }

  func itself() throws(TransferError) -> ReceivedNode {
    try inVault { () throws(VaultError) in
      ReceivedNode(
        descriptor: try directory.descriptor(), target: .vault(try directory.attributes()))
    }
  }

  func node(_ name: [UInt8]) throws(TransferError) -> ReceivedNode {
    let entry = try require(name)
    return try inVault { () throws(VaultError) in
      ReceivedNode(
        descriptor: try directory.openNode(entry),
        target: .vault(try directory.attributes(of: entry)))
    }
  }

  func readLink(_ name: [UInt8]) throws(TransferError) -> [UInt8] {
    let entry = try require(name)
    return try inVault { () throws(VaultError) in try directory.readLink(entry) }
  }

  func makeLink(_ name: [UInt8], target: [UInt8]) throws(TransferError) {
    _ = try inVault { () throws(VaultError) in
      try directory.makeSymbolicLink(name, target: target, owner: nil)
    }
  }

  func makeNode(_ name: [UInt8], mode: UInt32, device: UInt64) throws(TransferError) {
    _ = try inVault { () throws(VaultError) in
      try directory.makeNode(name, mode: mode, device: device, owner: nil)
    }
  }

  private func require(_ name: [UInt8]) throws(TransferError) -> VaultEntry {
    let entry = try inVault { () throws(VaultError) in try directory.lookup(name) }
    guard let entry else { throw .changed }
    return entry
  }

  // MARK: Files

  func begin(_ name: [UInt8], _ policy: ContentPolicy) throws(TransferError) -> any ReceivedFile {
    File(
      directory: directory,
      file: try inVault { () throws(VaultError) in
        try directory.beginFile(name, policy: policy)
      })
  }

  private struct File: ReceivedFile {
    let directory: VaultDirectory
    let file: IncomingFile

    var content: Content { file.container.map { .container($0) } ?? .plain(file.descriptor) }

    var node: ReceivedNode {
      ReceivedNode(descriptor: file.descriptor, target: .vault(file.attributes))
    }

    func commit(modified: TimeSpec) throws(TransferError) {
      try inVault { () throws(VaultError) in
        _ = try file.container?.commit(modificationTime: modified)
      }
    }

    func finish(replacing: Bool) throws(TransferError) {
      _ = try inVault { () throws(VaultError) in
        if replacing { try directory.removeFile(file.name) }
        return try directory.finishFile(file)
      }
    }

    func cancel() { directory.cancelFile(file) }
  }

  func adopt(_ item: Item, keepsSource: Bool) throws(TransferError) -> Bool {
    do throws(VaultError) {
      if try directory.lookup(item.name) != nil { return false }
      _ = try directory.adopt(
        from: item.folder.rawValue, item.name, as: item.name, .plain, keepsSource: keepsSource)
      return true
    } catch .system(.improperLink, _) {
      return false
    } catch .system(.notPermitted, _) where keepsSource {
      // The kernel lets only its owner link a file.
      return false
    } catch {
      throw .vault(error)
    }
  }

  func link(
    _ first: any Receiver, _ other: [UInt8], as name: [UInt8]
  ) throws(TransferError) -> Bool {
    guard let from = first as? VaultReceiver else { return false }
    let entry = try from.require(other)
    _ = try inVault { () throws(VaultError) in
      try from.directory.linkInAnyMode(entry, to: directory, as: name)
    }
    return true
  }

  func content(
    _ name: [UInt8], size: UInt64
  ) throws(TransferError) -> (Content, SharedFD)? {
    try inVault { () throws(VaultError) -> (Content, SharedFD)? in
      guard let entry = try directory.lookup(name) else { return nil }
      switch entry.mode {
      case .container:
        let container = try directory.openContainer(entry)
        guard container.file.size == size else { return nil }
        return (.container(container), container.descriptor)
      case .plain:
        guard entry.status.size == size else { return nil }
        let file = try directory.openPlain(entry, .readOnly)
        return (.plain(file), file)
      case .directory, .symbolicLink, .longLink, .special: return nil
      }
    }
  }

  func sync() throws(TransferError) {
    try inVault { () throws(VaultError) in try vault.syncFilesystem() }
  }

  var syncsEverything: Bool { true }

  /// The vault looks after its descriptors itself.
  func rest() { directory.forgetNames() }
}
