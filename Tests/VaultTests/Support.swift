import Container
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

let testSecret = VaultSecret.keyFile(SecretBytes(copying: bytes("a key file's content")))

func testKeys(suite: CipherSuite = .preferred) throws -> MasterKeys {
  try MasterKeys(
    master: SecretBytes(copying: [UInt8](repeating: 7, count: 32)),
    vaultID: [UInt8](repeating: 9, count: 16), suite: suite)
}

/// A vault in a folder that goes with it.
final class TestVault {
  let folder: TemporaryDirectory
  var path: String { folder.path("vault") }
  private(set) var vault: Vault
  private let backingTree: SharedFD

  init(
    content: ContentPolicy = .sealed, names: NamePolicy = .sealed,
    place: TemporaryDirectory.Place = .memory
  ) throws {
    folder = try TemporaryDirectory(place)
    try Vault.create(
      at: folder.path("vault"), slots: [SlotRequest(secret: testSecret)], content: content,
      names: names)
    vault = try Vault.open(at: folder.path("vault"), secret: testSecret, access: .readWrite)
    backingTree = SharedFD(
      try Sys.openat(
        folder.descriptor.rawValue, bytes("vault/tree"), [.readOnly, .directory]))
  }

  var root: VaultDirectory { vault.root }

  /// Closes and opens again.
  func reopen(_ access: VaultAccess = .readWrite) throws {
    try vault.close()
    vault = try Vault.open(at: path, secret: testSecret, access: access)
  }

  /// Opens again as after a crash: the session was not closed, the kernel dropped the lock.
  func crash() throws {
    try closeAsAfterACrash()
    try open()
  }

  /// Leaves the vault as a crash does, with some harm of its own.
  func closeAsAfterACrash(_ harm: () throws -> Void = {}) throws {
    let copy = try folder.contents("vault/scrim.session")
    try vault.close()
    let session = try folder.makeFile("vault/scrim.session", copy)
    _ = consume session
    try harm()
  }

  /// Opens again what was closed.
  func open() throws {
    vault = try Vault.open(at: path, secret: testSecret, access: .readWrite)
  }

  /// A descriptor of `tree/`, open as long as this is.
  var tree: Int32 { backingTree.rawValue }

  /// A descriptor of `tree/` or something in it, to do what an attacker or a tool would.
  func backing(_ components: [[UInt8]] = []) throws -> SharedFD {
    var current = try Sys.openat(
      folder.descriptor.rawValue, bytes("vault/tree"), [.readOnly, .directory])
    for component in components {
      current = try Sys.openat(current.rawValue, component, [.readOnly, .directory])
    }
    return SharedFD(current)
  }
}

extension VaultDirectory {
  /// Creates a file with content and lets go of it.
  @discardableResult
  func makeFile(_ name: String, _ content: [UInt8] = []) throws -> VaultEntry {
    try makeFile(bytes(name), content)
  }

  @discardableResult
  func makeFile(_ name: [UInt8], _ content: [UInt8] = []) throws -> VaultEntry {
    let file = try createFile(name, mode: 0o644, owner: nil)
    if let container = file.container {
      try content.withUnsafeBytes { try container.file.write(at: 0, from: $0) }
      try container.commit()
    } else {
      try content.withUnsafeBytes { try Sys.pwrite(file.descriptor.rawValue, $0, at: 0) }
    }
    return try require(name)
  }

  /// The content of a file.
  func content(_ name: [UInt8]) throws -> [UInt8] {
    let entry = try require(name)
    let size = Int(try plainSize(entry))
    var content = [UInt8](repeating: 0, count: size)
    let count = try content.withUnsafeMutableBytes { buffer in
      if entry.mode == .plain {
        let file = try openPlain(entry, .readOnly)
        defer { withExtendedLifetime(file) {} }
        return try Sys.pread(file.rawValue, buffer, at: 0)
      }
      return try openContainer(entry).file.read(at: 0, into: buffer)
    }
    #expect(count == size)
    return content
  }

  func content(_ name: String) throws -> [UInt8] { try content(bytes(name)) }

  func find(_ name: String) throws -> VaultEntry { try #require(try lookup(bytes(name))) }

  func directory(_ name: String) throws -> VaultDirectory {
    try openDirectory(named: bytes(name))
  }

  @discardableResult
  func makeDirectory(_ name: String) throws -> VaultDirectory {
    try makeDirectory(bytes(name), mode: 0o755, owner: nil).directory
  }
}

/// The error number a call ends with.
func errno<R>(_ call: () throws -> R) -> Errno? {
  do {
    _ = try call()
    return nil
  } catch let error as VaultError {
    return error.errno
  } catch {
    return nil
  }
}

/// Whether a call reports damage or refuses an entry.
func isRejected<R>(_ call: () throws -> R) -> Bool {
  do {
    _ = try call()
    return false
  } catch let error as VaultError {
    switch error {
    case .damaged, .refused, .container(.damaged): return true
    default: return false
    }
  } catch {
    return false
  }
}
