import Vault

/// Between paths in a vault and in its folder without a mount.
struct OfflinePath {
  private static let slash = UInt8(ascii: "/")

  private let folder: PathArgument
  private let reader: VaultReader

  init(_ folder: PathArgument, _ secrets: SecretOptions) throws {
    self.folder = folder
    reader = try VaultReader(folder, secrets)
  }

  private var tree: [UInt8] { folder.absolute + Array("/tree".utf8) }

  /// The backing path of a path from the vault's root.
  func backing(_ path: PathArgument) throws -> [UInt8] {
    let names = path.bytes.split(separator: Self.slash).filter { $0 != [UInt8(ascii: ".")] }
    var directory = reader.vault.root
    var found = tree
    for (index, name) in names.enumerated() {
      guard let entry = try directory.lookup(Array(name)) else {
        throw Failure(.notFound, "there is no \(path.text) in the vault")
      }
      found += [Self.slash] + entry.backingName
      if index < names.count - 1 { directory = try directory.openDirectory(entry) }
    }
    return found
  }

  /// The path from the vault's root of something in its folder.
  func plain(_ path: PathArgument) throws -> [UInt8] {
    let absolute =
      path.bytes.last == Self.slash || path.absolute == tree
      ? path.absolute : MountedPath.absolute(path)
    guard absolute == tree || absolute.starts(with: tree + [Self.slash]) else {
      throw Failure(.notFound, "\(path.text) is not below \(folder.text)/tree")
    }
    let names = absolute.dropFirst(tree.count).split(separator: Self.slash).map { Array($0) }
    var directory = reader.vault.root
    var found: [UInt8] = names.isEmpty ? [Self.slash] : []
    for (index, name) in names.enumerated() {
      let item = try directory.list().first { $0.entryKind != nil && $0.backingName == name }
      guard let item else {
        throw Failure(.notFound, "\(path.text) stands for nothing in the vault")
      }
      found += [Self.slash] + item.name
      if index < names.count - 1 {
        guard let entry = try directory.lookup(item.name) else {
          throw Failure(.notFound, "\(path.text) stands for nothing in the vault")
        }
        directory = try directory.openDirectory(entry)
      }
    }
    return found
  }
}
