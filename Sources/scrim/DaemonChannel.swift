import Glibc
import Primitives
import Vault

/// What passes between `scrim mount` and the process it starts: the passphrase one way; notes, the
/// word that the mount answers, or the reason why it does not, the other.
///
/// A message is a kind byte, a length (32 bits, host order) and that many bytes.
struct DaemonChannel: Sendable {
  enum Message {
    case secret(VaultSecret)
    case note(String)
    case ready
    case failure(Failure)
  }

  /// The descriptor the started process finds its end at.
  static let childDescriptor: Int32 = 3
  private static let longestMessage = 2 << 20

  let descriptor: Int32

  /// Whether the message went out; false when the other side is gone.
  @discardableResult
  func send(_ message: Message) -> Bool {
    switch message {
    case .secret(let secret): return send(secret)
    case .note(let text): return send(1, text)
    case .ready: return send(2, "")
    case .failure(let failure):
      let code = UInt8(truncatingIfNeeded: failure.exit.rawValue)
      return ([code] + Array(failure.message.utf8)).withUnsafeBytes { send(3, $0) }
    }
  }

  /// The next message; nil when the other side is gone or sent what makes no sense.
  func receive() -> Message? {
    var head = [UInt8](repeating: 0, count: 5)
    guard head.withUnsafeMutableBytes({ Descriptor.readAll(descriptor, into: $0) }) == 5 else {
      return nil
    }
    let length = head.withUnsafeBytes {
      Int($0.loadUnaligned(fromByteOffset: 1, as: UInt32.self))
    }
    guard length <= Self.longestMessage else { return nil }
    var complete = true
    let body = SecretBytes(count: length) { buffer in
      complete = Descriptor.readAll(descriptor, into: buffer) == length
    }
    guard complete else { return nil }
    return decode(head[0], body)
  }

  private func decode(_ kind: UInt8, _ body: SecretBytes) -> Message? {
    func text(from start: Int) -> String {
      body.withUnsafeBytes { String(decoding: $0.dropFirst(start), as: UTF8.self) }
    }
    switch kind {
    case 0: return Self.secret(from: body).map { .secret($0) }
    case 1: return .note(text(from: 0))
    case 2: return .ready
    case 3:
      let code = body.withUnsafeBytes { $0.first ?? 1 }
      return .failure(Failure(Exit(rawValue: Int32(code)) ?? .system, text(from: 1)))
    default: return nil
    }
  }

  /// The kind of the secret, then its bytes; a recovery key as its text.
  private func send(_ secret: VaultSecret) -> Bool {
    switch secret {
    case .passphrase(let bytes), .keyFile(let bytes), .command(let bytes):
      let framed = SecretBytes(count: bytes.count + 1) { buffer in
        buffer[0] = secret.kind.rawValue
        bytes.withUnsafeBytes {
          UnsafeMutableRawBufferPointer(rebasing: buffer[1...]).copyMemory(from: $0)
        }
      }
      return framed.withUnsafeBytes { send(0, $0) }
    case .recovery(let key):
      var text = [secret.kind.rawValue] + Array(key.text.utf8)
      defer { text.wipe() }
      return text.withUnsafeBytes { send(0, $0) }
    }
  }

  private static func secret(from body: SecretBytes) -> VaultSecret? {
    guard body.count > 1 else { return nil }
    let rest = body.slice(1..<body.count)
    switch body.withUnsafeBytes({ SlotKind(rawValue: $0[0]) }) {
    case .passphrase: return .passphrase(rest)
    case .keyFile: return .keyFile(rest)
    case .command: return .command(rest)
    case .recovery:
      let text = rest.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
      return RecoveryKey(text: text).map { .recovery($0) }
    case nil: return nil
    }
  }

  private func send(_ kind: UInt8, _ text: String) -> Bool {
    Array(text.utf8.prefix(Self.longestMessage)).withUnsafeBytes { send(kind, $0) }
  }

  private func send(_ kind: UInt8, _ body: UnsafeRawBufferPointer) -> Bool {
    var head = [kind]
    withUnsafeBytes(of: UInt32(body.count)) { head += $0 }
    return head.withUnsafeBytes(sendAll) && sendAll(body)
  }

  /// send(2) instead of write(2): a parent that is gone must not kill the daemon with SIGPIPE.
  private func sendAll(_ buffer: UnsafeRawBufferPointer) -> Bool {
    var rest = buffer[...]
    while !rest.isEmpty {
      let start = UnsafeRawBufferPointer(rebasing: rest).baseAddress
      let sent = Glibc.send(descriptor, start, rest.count, Int32(MSG_NOSIGNAL))
      if sent < 0 && errno == EINTR { continue }
      guard sent > 0 else { return false }
      rest = rest.dropFirst(sent)
    }
    return true
  }
}
