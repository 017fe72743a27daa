import Container
import Glibc
import Logging
import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

/// The steps of replacing a master key, each cut short at every system call.
@Suite struct RekeyTests {
  private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  private static let recovery = RecoveryKey.random()

  private static func vault() throws -> TestVault {
    let vault = try TestVault()
    try vault.root.makeFile("file", bytes("content"))
    try vault.vault.close()
    return vault
  }

  /// What moves entries, for the one file of these tests.
  private static func move(_ rekeying: Rekeying) throws {
    let (old, new) = (rekeying.old.root, rekeying.new.root)
    guard try old.lookup(bytes("file")) != nil else { return }
    if try new.lookup(bytes("file")) == nil {
      let content = try old.content("file")
      let file = try new.beginFile(bytes("file"))
      try content.withUnsafeBytes { try file.container?.file.write(at: 0, from: $0) }
      try file.container?.sync()
      _ = try new.finishFile(file)
    }
    try old.removeFile(bytes("file"))
  }

  private static func begin(_ vault: TestVault) throws -> Rekeying? {
    try afterChildren { try Rekeying.begin(at: vault.path, secret: testSecret, logger: logger) }
  }

  /// A program that another test starts meanwhile holds the lock, too, until it is executed.
  private static func afterChildren<R>(_ body: () throws -> R) throws -> R {
    for _ in 0..<100 {
      do { return try body() } catch VaultError.locked { usleep(10_000) }
    }
    return try body()
  }

  private static func finish(_ vault: TestVault) throws {
    guard let rekeying = try begin(vault) else { return }
    try move(rekeying)
    try rekeying.finish(recovery: recovery)
  }

  private static func check(_ vault: TestVault, _ header: [UInt8], _ what: String) throws {
    let master = try VaultHeader(parsing: header).unlock(testSecret).keys.master
    for secret in [testSecret, .recovery(recovery)] {
      let opened = try afterChildren {
        try Vault.open(at: vault.path, secret: secret, access: .readWrite)
      }
      #expect(try opened.root.content("file") == bytes("content"), "\(what)")
      let isSame = opened.context.keys.master.withUnsafeBytes { new in
        master.withUnsafeBytes { Array(new) == Array($0) }
      }
      #expect(!isSame, "\(what): the old key")
      try opened.close()
    }
    let folder = try Sys.openat(
      vault.folder.descriptor.rawValue, bytes("vault"), [.readOnly, .directory])
    let names = try Sys.entries(of: folder.rawValue).map {
      String(decoding: $0.name, as: UTF8.self)
    }
    #expect(
      names.sorted() == ["scrim.lock", "scrim.session", "scrim.vault", "tree"], "\(what)")
  }

  @Test func cutShortAtAnyCallItGoesOn() throws {
    for call in 0... {
      let vault = try Self.vault()
      let header = try vault.folder.contents("vault/scrim.vault")
      let dead = CallFaults(failing: call, with: .ioError, isLasting: true)
      try? watchingCalls(dead) { try Self.finish(vault) }
      let isWhole = dead.calls <= call
      if !isWhole {
        // Either nothing has begun, or nobody takes a part for the whole.
        do {
          let opened = try Vault.open(at: vault.path, secret: testSecret, access: .readOnly)
          #expect(try opened.root.content("file") == bytes("content"), "call \(call)")
        } catch VaultError.rekeying {
          // Goes on below.
        }
        try Self.finish(vault)
      }
      let now = try vault.folder.contents("vault/scrim.vault")
      if now == header { try Self.finish(vault) }
      try Self.check(vault, header, "call \(call)")
      if isWhole { return }
    }
  }

  @Test func onlyTheKeyItBeganWithGoesOn() throws {
    let vault = try Self.vault()
    let other = VaultSecret.keyFile(SecretBytes(copying: bytes("another key file's content")))
    try Vault.addSlot(
      at: vault.path, unlockedBy: testSecret, SlotRequest(secret: other, label: "other"))
    try #require(try Self.begin(vault)).interrupt()
    #expect(throws: VaultError.self) {
      try Rekeying.begin(at: vault.path, secret: other, logger: Self.logger)
    }
    #expect(throws: VaultError.self) {
      try Vault.addSlot(at: vault.path, unlockedBy: testSecret, SlotRequest(secret: other))
    }
    let rekeying = try #require(try Self.begin(vault))
    #expect(throws: VaultError.self) { try rekeying.finish(recovery: Self.recovery) }
    try Self.move(rekeying)
    try rekeying.finish(recovery: Self.recovery)
    #expect(throws: VaultError.self) {
      try Vault.open(at: vault.path, secret: other, access: .readOnly)
    }
    #expect(try Vault.inspect(at: vault.path).slots.map(\.kind) == [.keyFile, .recovery])
  }

  @Test func bothPartsOfTheVectorAreRead() throws {
    let folder = try VectorVaultTests.unpack("v1-rekey")
    let secret = VaultSecret.passphrase(SecretBytes(copying: bytes("passphrase")))
    let path = folder.path("v1-rekey")
    #expect(throws: VaultError.self) {
      try Vault.open(at: path, secret: secret, access: .readOnly)
    }
    let places = try Vault.parts(of: path)
    #expect(places == [path, "\(path)/scrim.rekey"])
    let parts = try places.map {
      try Vault.open(at: $0, secret: secret, access: .readOnly, isPart: true)
    }
    try Rekeying.requireSuccessor(parts[1], of: parts[0])
    #expect(throws: VaultError.self) { try Rekeying.requireSuccessor(parts[1], of: parts[1]) }
    for (part, name) in zip(parts, ["left", "moved"]) {
      #expect(try part.root.content("both") == bytes("the old one is not removed yet"))
      #expect(try part.root.directory("folder").list().map(\.name) == [bytes(name)])
    }
  }
}
