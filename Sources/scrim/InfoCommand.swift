import ArgumentParser
import FoundationEssentials
import Primitives
import Vault

struct InfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info",
    abstract: "What a vault's header says, without a passphrase.",
    discussion: "Nothing of it is authenticated until the vault is opened.")

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  func run() throws {
    let facts = VaultFacts(try vault.inspectVault())
    if json { return try Output.json(facts) }
    try Output.line("vault ID   \(facts.vaultID)")
    try Output.line("format     \(facts.formatVersion)")
    try Output.line("suite      \(facts.suite)")
    for (index, slot) in facts.slots.enumerated() {
      try Output.line("slot \(index)     \(slot.text)")
    }
  }
}

/// What can be told of a header.
private struct VaultFacts: Encodable {
  let vaultID: String
  let formatVersion = 1
  let suite: String
  let slots: [SlotFacts]

  init(_ header: VaultHeader) {
    vaultID = header.vaultID.map { String(UInt16($0) + 256, radix: 16).dropFirst() }.joined()
    suite =
      switch header.suite {
      case .aes256GCM: "AES-256-GCM"
      case .chaCha20Poly1305: "ChaCha20-Poly1305"
      }
    slots = header.slots.map(SlotFacts.init)
  }
}

/// What can be told of a key slot.
struct SlotFacts: Encodable {
  let kind: String
  let label: String
  let kdf: String

  init(_ slot: KeySlot) {
    kind = Self.name(slot.kind)
    label = slot.label
    kdf = Self.text(slot.derivation)
  }

  /// As one line.
  var text: String {
    "\(kind)\(label.isEmpty ? "" : " \"\(StatusText.safe(label))\"") (\(kdf))"
  }

  private static func name(_ kind: SlotKind) -> String {
    switch kind {
    case .passphrase: "passphrase"
    case .keyFile: "key file"
    case .recovery: "recovery key"
    case .command: "command"
    }
  }

  private static func text(_ derivation: SlotDerivation) -> String {
    switch derivation {
    case .scrypt(let logN, let r, let p):
      "scrypt N=2^\(logN) r=\(r) p=\(p), \(StatusText.bytes(128 * UInt64(r) << UInt64(logN)))"
    case .argon2id(let memory, let passes, let lanes):
      "Argon2id \(StatusText.bytes(UInt64(memory) * 1024)), \(passes) passes, \(lanes) lanes"
    case .hkdf: "HKDF"
    }
  }
}

extension Output {
  /// A value as JSON, members in alphabetical order.
  static func json(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try write(Array(try encoder.encode(value)) + [UInt8(ascii: "\n")])
  }
}
