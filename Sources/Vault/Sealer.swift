import Primitives

/// Short sealed byte strings (records, hints, attribute values, sessions) under one key.
/// Safe to use from several threads at once.
final class Sealer: Sendable {
  /// A sealed string in its three parts; each format lays them out in its own order.
  struct Parts {
    var nonce: [UInt8]
    var tag: [UInt8]
    var body: [UInt8]
  }

  private let suite: CipherSuite
  private let key: SecretBytes
  private let contexts = Pool<AEAD>()

  init(suite: CipherSuite, key: SecretBytes) throws(CryptoError) {
    self.suite = suite
    self.key = key
    contexts.give(try AEAD(suite: suite, key: key))
  }

  private func takeContext() throws(CryptoError) -> AEAD {
    if let idle = contexts.take() { return idle }
    return try AEAD(suite: suite, key: key)
  }

  func seal(_ plain: [UInt8], associatedData: [UInt8]) throws(CryptoError) -> Parts {
    let context = try takeContext()
    defer { contexts.give(context) }
    let nonce = Random.bytes(AEAD.nonceCount)
    var tag = [UInt8](repeating: 0, count: AEAD.tagCount)
    // One byte more, so that an empty plaintext has an address too.
    var body = plain + [0]
    nonce.withUnsafeBytes { nonce in
      associatedData.withUnsafeBytes { data in
        tag.withUnsafeMutableBytes { tag in
          body.withUnsafeMutableBytes { body in
            // SAFETY: the buffers live for the call and have the lengths AEAD asks for; none is
            // empty, so each has an address.
            guard let nonce = nonce.baseAddress, let tag = tag.baseAddress,
              let start = body.baseAddress
            else { preconditionFailure("non-empty arrays have addresses") }
            context.seal(
              nonce: nonce, associatedData: data,
              plain: UnsafeRawBufferPointer(start: start, count: plain.count), into: start, tag: tag
            )
          }
        }
      }
    }
    body.removeLast()
    return Parts(nonce: nonce, tag: tag, body: body)
  }

  func open(_ sealed: Parts, associatedData: [UInt8]) throws(CryptoError) -> [UInt8] {
    guard sealed.nonce.count == AEAD.nonceCount, sealed.tag.count == AEAD.tagCount else {
      throw .authenticationFailed
    }
    let context = try takeContext()
    defer { contexts.give(context) }
    var body = sealed.body + [0]
    let opened = sealed.nonce.withUnsafeBytes { nonce in
      associatedData.withUnsafeBytes { data in
        sealed.tag.withUnsafeBytes { tag in
          body.withUnsafeMutableBytes { body -> Bool in
            // SAFETY: as in `seal`.
            guard let nonce = nonce.baseAddress, let tag = tag.baseAddress,
              let start = body.baseAddress
            else { preconditionFailure("non-empty arrays have addresses") }
            do {
              try context.open(
                nonce: nonce, associatedData: data,
                cipher: UnsafeRawBufferPointer(start: start, count: sealed.body.count),
                into: start, tag: tag)
              return true
            } catch {
              return false
            }
          }
        }
      }
    }
    guard opened else { throw .authenticationFailed }
    body.removeLast()
    return body
  }
}
