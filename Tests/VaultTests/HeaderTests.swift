import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Vault

@Suite struct HeaderTests {
  private func header(_ secrets: [VaultSecret]) throws -> (VaultHeader, MasterKeys) {
    let keys = try testKeys()
    let slots = try secrets.map {
      try KeySlot(
        wrapping: keys.master, secret: $0, label: "mine", cost: .scrypt(logN: 10),
        vaultID: keys.vaultID)
    }
    return (VaultHeader(suite: keys.suite, vaultID: keys.vaultID, slots: slots), keys)
  }

  @Test func everyKindOfSecretOpensItsSlot() throws {
    let recovery = RecoveryKey.random()
    let secrets: [VaultSecret] = [
      .passphrase(SecretBytes(copying: bytes("one"))),
      .keyFile(SecretBytes(copying: bytes("two"))), .recovery(recovery),
      .command(SecretBytes(copying: bytes("four"))),
    ]
    let (header, keys) = try header(secrets)
    let parsed = try VaultHeader(parsing: header.serialized(with: keys))
    #expect(parsed == header)
    for (index, secret) in secrets.enumerated() {
      let opened = try parsed.unlock(secret)
      #expect(opened.slot == index)
      #expect(opened.keys.master == keys.master)
    }
    let again = try #require(RecoveryKey(text: recovery.text))
    #expect(try parsed.unlock(.recovery(again)).slot == 2)
  }

  @Test func aWrongSecretIsNotDamage() throws {
    let (header, keys) = try header([.keyFile(SecretBytes(copying: bytes("right")))])
    let parsed = try VaultHeader(parsing: header.serialized(with: keys))
    #expect {
      try parsed.unlock(.keyFile(SecretBytes(copying: bytes("wrong"))))
    } throws: { error in
      if case .wrongSecret? = error as? VaultError { true } else { false }
    }
  }

  @Test func everyFlippedBitAndEveryTruncationIsRejected() throws {
    let secret = VaultSecret.keyFile(SecretBytes(copying: bytes("secret")))
    let (header, keys) = try header([secret])
    let whole = header.serialized(with: keys)
    for index in whole.indices {
      for bit in [0, 3, 7] {
        var changed = whole
        changed[index] ^= 1 << UInt8(bit)
        #expect(throws: VaultError.self, "byte \(index)") {
          try VaultHeader(parsing: changed).unlock(secret)
        }
      }
    }
    for count in 0..<whole.count {
      #expect(throws: VaultError.self) { try VaultHeader(parsing: Array(whole[..<count])) }
    }
    #expect(throws: VaultError.self) { try VaultHeader(parsing: whole + [0]) }
  }

  @Test func aRemovedSlotIsNoticedByTheOthers() throws {
    let first = VaultSecret.keyFile(SecretBytes(copying: bytes("first")))
    let second = VaultSecret.keyFile(SecretBytes(copying: bytes("second")))
    let (header, keys) = try header([first, second])
    var bytes = header.serialized(with: keys)
    // Slot one is cut out and the count put right, as someone without the key could do.
    let slot = Int(bytes[32])
    bytes.removeSubrange(32..<(32 + slot))
    bytes[28] = 1
    let parsed = try VaultHeader(parsing: bytes)
    #expect(isRejected { try parsed.unlock(second) })
  }

  @Test func costsOutOfRangeAreRejectedBeforeAnythingIsComputed() throws {
    let (header, keys) = try header([.passphrase(SecretBytes(copying: bytes("pass")))])
    let whole = header.serialized(with: keys)
    for (offset, value) in [(36, 9), (36, 25), (40, 0), (40, 33), (44, 0), (44, 17)] {
      var changed = whole
      changed[offset] = UInt8(value)
      #expect(throws: VaultError.self) { try VaultHeader(parsing: changed) }
    }
  }

  @Test func recoveryKeysForgiveSpellingButNotMistakes() throws {
    let key = RecoveryKey.random()
    let text = key.text
    #expect(text.filter { $0 != "-" }.count == 55)
    let spelled = text.lowercased().replacing("-", with: " ").replacing("o", with: "0")
      .replacing("i", with: "1").replacing("b", with: "8")
    #expect(try #require(RecoveryKey(text: spelled)).secret == key.secret)
    var symbols = Array(text)
    symbols[0] = symbols[0] == "A" ? "C" : "A"
    #expect(RecoveryKey(text: String(symbols)) == nil)
    #expect(RecoveryKey(text: String(text.dropLast())) == nil)
    #expect(RecoveryKey(text: "") == nil)
  }

  @Test func slotsAreAddedReplacedAndRemoved() throws {
    let vault = try TestVault()
    let other = VaultSecret.keyFile(SecretBytes(copying: bytes("other")))
    let third = VaultSecret.recovery(RecoveryKey.random())
    #expect(
      try Vault.addSlot(
        at: vault.path, unlockedBy: testSecret, SlotRequest(secret: other, label: "spare")) == 1)
    #expect(
      try Vault.replaceSlot(
        at: vault.path, openedBy: other, with: SlotRequest(secret: third)) == 1)
    let header = try Vault.inspect(at: vault.path)
    #expect(header.slots.map(\.kind) == [.keyFile, .recovery])
    #expect(header.slots[1].label == "spare")
    try Vault.removeSlot(at: vault.path, unlockedBy: third, index: 0)
    #expect(throws: VaultError.self) {
      try Vault.open(at: vault.path, secret: testSecret, access: .readOnly)
    }
    _ = try Vault.open(at: vault.path, secret: third, access: .readOnly)
    #expect(
      errno { try Vault.removeSlot(at: vault.path, unlockedBy: third, index: 0) }
        == .notPermitted)
  }
}
