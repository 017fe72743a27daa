import Primitives
import SystemPackage
import TestSupport

@testable import Container
@testable import Vault

/// Every decoder of untrusted bytes, each as a function of some bytes: for the tests with seeded
/// mutations, and for libFuzzer (Tests/Fuzz). Where a seal would reject nearly every input, the
/// bytes are also sealed first, as one who has the key could.
enum DecoderInput: String, CaseIterable {
  case header
  case record
  case session
  case hint
  case name
  case sidecar
  case slot
  case container

  /// Decodes; nothing may trap, hang or take memory without bound.
  ///
  /// - Returns: false if what was accepted is not what the encoder would have made.
  func feed(_ bytes: [UInt8]) -> Bool {
    guard let keys = DecoderInput.keys else { return true }
    switch self {
    case .header: return feedHeader(bytes)
    case .record: return feedRecord(bytes, keys)
    case .session: return feedSession(bytes, keys)
    case .hint: return feedHint(bytes, keys)
    case .name: return feedName(bytes, keys)
    case .sidecar: return feedSidecar(bytes, keys)
    case .slot: return feedSlot(bytes, keys)
    case .container: return feedContainer(bytes)
    }
  }

  /// Something valid to begin with.
  var seeds: [[UInt8]] {
    guard let keys = DecoderInput.keys else { return [] }
    switch self {
    case .header: return [DecoderInput.headerSeed]
    case .record: return DecoderInput.recordSeeds(keys)
    case .session:
      let windows = (0..<64).map { UncleanWindow(start: $0, end: $0 + 1, sessions: 1...2) }
      let state = SessionState(serial: 3, session: 4, isOpen: true, start: 5, windows: windows)
      return (try? state.sealed(with: keys)).map { [Array($0[36...]), $0] } ?? []
    case .hint: return [[UInt8](0..<24)]
    case .name: return [[UInt8](".scrim-x.scrim-c".utf8), [UInt8](repeating: 0x61, count: 255)]
    case .sidecar:
      return [[UInt8](repeating: 0x62, count: 255), [UInt8](repeating: 0x41, count: 364)]
    case .slot, .container: return DecoderInput.containerSeeds
    }
  }

  private static let keys = try? MasterKeys(
    master: SecretBytes(copying: [UInt8](repeating: 7, count: 32)),
    vaultID: [UInt8](repeating: 9, count: 16), suite: .aes256GCM)

  // MARK: The vault's own files

  private static var headerSeed: [UInt8] {
    var writer = ByteWriter(capacity: 256)
    writer.write([UInt8]("SCRIMVLT".utf8))
    for field: UInt8 in [1, 0, 1, 0] { writer.write(field) }
    writer.write([UInt8](repeating: 9, count: 16))
    writer.write(UInt16(1))
    writer.write(UInt16(0))
    writer.write(UInt16(109 + 4))
    for field: UInt8 in [1, 1] { writer.write(field) }
    for cost: UInt32 in [16, 8, 1] { writer.write(cost) }
    writer.write([UInt8](repeating: 5, count: 32 + 12 + 32 + 16))
    writer.write(UInt8(4))
    writer.write([UInt8]("slot".utf8))
    writer.write([UInt8](repeating: 3, count: 32))
    return writer.bytes
  }

  private func feedHeader(_ bytes: [UInt8]) -> Bool {
    guard let header = try? VaultHeader(parsing: bytes), let keys = DecoderInput.keys else {
      return true
    }
    // All but the MAC, which is not that of these keys.
    return header.serialized(with: keys).dropLast(32) == bytes.dropLast(32)
  }

  private static func recordSeeds(_ keys: MasterKeys) -> [[UInt8]] {
    let rules = [ContentRule(pattern: [UInt8]("*.mp4".utf8), policy: .plain)].compactMap { $0 }
    let record = DirectoryRecord(
      id: DirectoryID(bytes: [UInt8](repeating: 1, count: 16)), serial: 41,
      content: .sealedCompressed, names: .plain, flags: [.specialFiles], rules: rules,
      bindings: [keys.rootBinding])
    guard let sealed = try? record.sealed(with: keys) else { return [] }
    let parts = Sealer.Parts(
      nonce: Array(sealed[8..<20]), tag: Array(sealed[20..<36]), body: Array(sealed[36...]))
    let body = try? keys.records.open(
      parts, associatedData: [UInt8]("SCRIMDIR".utf8) + keys.vaultID)
    return [body ?? [], sealed]
  }

  private func feedRecord(_ bytes: [UInt8], _ keys: MasterKeys) -> Bool {
    _ = DirectoryRecord(opening: bytes, with: keys)
    let magic = [UInt8]("SCRIMDIR".utf8)
    guard let parts = try? keys.records.seal(bytes, associatedData: magic + keys.vaultID),
      let record = DirectoryRecord(
        opening: magic + parts.nonce + parts.tag + parts.body, with: keys),
      let again = try? record.sealed(with: keys)
    else { return true }
    for name in [[], bytes] { _ = record.policy(for: name) }
    return again.count == 36 + bytes.count && DirectoryRecord(opening: again, with: keys) == record
  }

  private func feedSession(_ bytes: [UInt8], _ keys: MasterKeys) -> Bool {
    _ = SessionState(opening: bytes, with: keys)
    let magic = [UInt8]("SCRIMSES".utf8)
    let body = Array((bytes + [UInt8](repeating: 0, count: 4060)).prefix(4060))
    guard let parts = try? keys.sessions.seal(body, associatedData: magic + keys.vaultID),
      let state = SessionState(
        opening: magic + parts.nonce + parts.tag + parts.body, with: keys)
    else { return true }
    for window in state.windows { _ = window.excuses(TimeSpec(seconds: .max, nanoseconds: 1)) }
    var more = state
    more.add(UncleanWindow(start: .min, end: .max, sessions: 0...UInt64.max))
    return more.windows.count <= 64
  }

  private func feedHint(_ bytes: [UInt8], _ keys: MasterKeys) -> Bool {
    _ = SizeHint(opening: bytes, with: keys, inode: 7)
    return true
  }

  // MARK: Names

  private func coders(_ keys: MasterKeys) -> [NameCoder] {
    let id = DirectoryID(bytes: [UInt8](repeating: 2, count: 16))
    return NamePolicy.allCases.map { NameCoder(keys: keys, id: id, policy: $0) }
  }

  /// Whether a name that was accepted is encoded to what was decoded.
  private func isCanonical(
    _ backing: [UInt8], sidecar: [UInt8]?, _ coder: NameCoder
  ) -> Bool {
    guard case .entry(let name, let kind) = coder.decode(backing, sidecar: { _ in sidecar }),
      let encoded = try? coder.encode(name, kind: kind)
    else { return true }
    return encoded.name == backing
      && encoded.sidecar?.content == (encoded.sidecar == nil ? nil : sidecar)
  }

  private func feedName(_ bytes: [UInt8], _ keys: MasterKeys) -> Bool {
    for coder in coders(keys) {
      guard isCanonical(bytes, sidecar: nil, coder) else { return false }
      for kind in EntryKind.allCases {
        // Any plaintext, sealed as a name of this kind.
        guard let suffix = kind.suffix(coder.policy),
          let sealed = try? keys.names.seal(
            bytes, associatedData: [coder.id.bytes, [kind.rawValue]])
        else { continue }
        let backing = Base64URL.encode(sealed) + suffix
        // No filesystem has longer names.
        guard backing.count > 255 || isCanonical(backing, sidecar: nil, coder) else { return false }
        if isValidName(bytes), let encoded = try? coder.encode(bytes, kind: kind),
          coder.decode(encoded.name, sidecar: { _ in encoded.sidecar?.content })
            != .entry(name: bytes, kind: kind)
        {
          return false
        }
      }
    }
    if let conflict = ConflictName(bytes) {
      _ = ConflictName.shown(conflict.original, addition: conflict.addition)
    }
    return true
  }

  private func feedSidecar(_ bytes: [UInt8], _ keys: MasterKeys) -> Bool {
    for coder in coders(keys) {
      let prefix: [UInt8] = coder.policy == .sealed ? [0x7E] : [UInt8](".scrim-h.".utf8)
      let stem = prefix + Base64URL.encode(KeyDerivation.sha256(bytes))
      for kind in EntryKind.allCases {
        guard let suffix = kind.suffix(coder.policy) else { continue }
        guard isCanonical(stem + suffix, sidecar: bytes, coder) else { return false }
      }
    }
    return true
  }

  // MARK: Containers

  private static let containerSeeds: [[UInt8]] = {
    guard let keys else { return [] }
    return [100, 200_000, 12_000_000].compactMap { size in
      let store = MemoryStore()
      let file = try? ContainerFile.create(
        store: store, keys: keys.content,
        parameters: ContainerParameters(policy: .compressed, session: 1), workspace: Workspace())
      var random = SeededRandom(seed: UInt64(size))
      for offset in stride(from: 0, to: size, by: 1_500_000) {
        let bytes = random.bytes(min(3000, size))
        try? bytes.withUnsafeBytes { try file?.write(at: UInt64(offset), from: $0) }
      }
      _ = try? file?.sync()
      _ = try? file?.truncate(to: UInt64(size))
      _ = try? file?.commit()
      return store.bytes
    }
  }()

  /// A header that authenticates, around any fields.
  private func feedSlot(_ bytes: [UInt8], _ keys: MasterKeys) -> Bool {
    var page = Array((bytes + [UInt8](repeating: 0, count: 4096)).prefix(4096))
    page.replaceSubrange(..<8, with: [UInt8]("SCRIMCTR".utf8))
    page[9] = CipherSuite.aes256GCM.rawValue
    page.withUnsafeMutableBytes { raw in
      guard let start = raw.baseAddress, let header = Header(clearPartOf: start) else { return }
      let ring = KeyRing(keys: keys.content, fileID: header.fileID)
      var cipher = Cipher(ring, isSecret: header.policy.isSecret)
      try? cipher.sealSlot(start, epoch: header.epoch)
    }
    exercise(page + bytes.dropFirst(4096), keys.content)
    return true
  }

  /// A `compressed` container read without a key: nothing authenticates, every structure counts.
  private func feedContainer(_ bytes: [UInt8]) -> Bool {
    exercise(bytes, ContainerKeys.unverified(suite: .aes256GCM))
    return true
  }

  private func exercise(_ bytes: [UInt8], _ keys: ContainerKeys) {
    for isExcused in [false, true] {
      let store = MemoryStore(bytes)
      guard
        let file = try? ContainerFile.open(
          store: store, keys: keys, parameters: ContainerParameters(policy: .sealed, session: 2),
          excuse: TornExcuse(isExcused: isExcused), workspace: Workspace())
      else { continue }
      _ = try? file.verify(deep: true)
      var buffer = [UInt8](repeating: 0, count: 200_000)
      for offset in [0, file.size / 2, file.size - min(file.size, 5000)] {
        _ = try? buffer.withUnsafeMutableBytes { try file.read(at: offset, into: $0) }
      }
      _ = try? file.nextData(from: 0)
      _ = file.bindings
      _ = file.allocatedBytes
    }
  }
}
