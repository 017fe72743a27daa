import Container
import Glibc
import Logging
import Primitives
import Vault

/// A vault opened for reading without a mount.
struct VaultReader {
  let vault: Vault

  init(_ path: PathArgument, _ secrets: SecretOptions) throws {
    // A folder that is no vault is named as such before a passphrase is asked for.
    _ = try path.inspectVault()
    let secret = try secrets.secret(for: path)
    try LogDestination.standardError.install(level: .warning)
    vault = try Patience.during("opening the vault") {
      try Vault.open(at: path.text, secret: secret, access: .readOnly)
    }
  }

  private init(_ vault: Vault) { self.vault = vault }

  /// The vault, or both parts of one whose master key is being replaced.
  static func parts(_ path: PathArgument, _ secrets: SecretOptions) throws -> [VaultReader] {
    _ = try path.inspectVault()
    let parts = try Vault.parts(of: path.text)
    let secret = try secrets.secret(for: path)
    try LogDestination.standardError.install(level: .warning)
    return try Patience.during("opening the vault") {
      let vaults = try parts.map {
        try Vault.open(at: $0, secret: secret, access: .readOnly, isPart: true)
      }
      if vaults.count > 1 { try Rekeying.requireSuccessor(vaults[1], of: vaults[0]) }
      return vaults.map(VaultReader.init)
    }
  }

  /// What a path below the root names; nil as entry is the root itself.
  func find(_ path: PathArgument) throws -> (directory: VaultDirectory, entry: VaultEntry?) {
    try VaultWalk(vault).find(path)
  }
}

/// Goes down paths of an open vault; everything on the way is authenticated.
struct VaultWalk {
  private let vault: Vault

  init(_ vault: Vault) { self.vault = vault }

  /// The directory that a path from the root names.
  func directory(_ path: PathArgument) throws -> VaultDirectory {
    let (parent, entry) = try find(path)
    guard let entry else { return parent }
    guard entry.mode == .directory else {
      throw Failure(.notFound, "\(path.text) in the vault is not a directory")
    }
    return try parent.openDirectory(entry)
  }

  /// What a path below the root names; nil as entry is the root itself.
  func find(_ path: PathArgument) throws -> (directory: VaultDirectory, entry: VaultEntry?) {
    let slash = UInt8(ascii: "/")
    var names = path.bytes.split(separator: slash).map { Array($0) }
    names.removeAll { $0 == [UInt8(ascii: ".")] }
    guard let last = names.popLast() else { return (vault.root, nil) }
    var directory = vault.root
    for name in names {
      directory = try directory.openDirectory(try Self.entry(name, in: directory, path))
    }
    return (directory, try Self.entry(last, in: directory, path))
  }

  private static func entry(
    _ name: [UInt8], in directory: VaultDirectory, _ path: PathArgument
  ) throws -> VaultEntry {
    guard let entry = try directory.lookup(name) else {
      throw Failure(.notFound, "there is no \(path.text) in the vault")
    }
    return entry
  }
}

/// Reads a file of a vault from its start to its end.
struct ContentReader {
  private static let chunk = 1 << 20
  private let read: (UInt64, UnsafeMutableRawBufferPointer) throws -> Int

  init(_ entry: VaultEntry, in directory: VaultDirectory) throws {
    switch entry.mode {
    case .container:
      let container = try directory.openContainer(entry)
      read = { try container.file.read(at: $0, into: $1) }
    case .plain:
      let file = try directory.openPlain(entry, .readOnly)
      read = { try Sys.pread(file.rawValue, $1, at: Int64(clamping: $0)) }
    case .directory, .symbolicLink, .longLink, .special:
      throw Failure(.system, "\(String(decoding: entry.name, as: UTF8.self)) is not a regular file")
    }
  }

  func forEachChunk(_ body: (UnsafeRawBufferPointer) throws -> Void) throws {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.chunk, alignment: 4096)
    defer { buffer.deallocate() }
    var offset: UInt64 = 0
    while true {
      let count = try read(offset, buffer)
      if count == 0 { return }
      try body(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]))
      offset += UInt64(count)
    }
  }
}
