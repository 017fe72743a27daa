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
    var parts = Parts(
      nonce: [UInt8](repeating: 0, count: AEAD.nonceCount),
      tag: [UInt8](repeating: 0, count: AEAD.tagCount), body: plain)
    try parts.change(associatedData) { (body, data, nonce, tag) throws(CryptoError) in
      try seal(body, associatedData: data, nonce: nonce, tag: tag)
    }
    return parts
  }

  func open(_ sealed: Parts, associatedData: [UInt8]) throws(CryptoError) -> [UInt8] {
    guard sealed.nonce.count == AEAD.nonceCount, sealed.tag.count == AEAD.tagCount else {
      throw .authenticationFailed
    }
    var parts = sealed
    try parts.change(associatedData) { (body, data, nonce, tag) throws(CryptoError) in
      try open(body, associatedData: data, nonce: nonce, tag: tag)
    }
    return parts.body
  }

  // MARK: In place

  /// Seals where the bytes are.
  ///
  /// - Parameters:
  ///   - body: The bytes; has an address.
  ///   - associatedData: As in `open`.
  ///   - nonce: Room for a nonce, which is made here.
  ///   - tag: Room for a tag.
  /// - Throws: `.outOfMemory`.
  func seal(
    _ body: UnsafeMutableRawBufferPointer, associatedData: UnsafeRawBufferPointer,
    nonce: UnsafeMutableRawPointer, tag: UnsafeMutableRawPointer
  ) throws(CryptoError) {
    guard let start = body.baseAddress else { preconditionFailure("a body has an address") }
    let context = try takeContext()
    defer { contexts.give(context) }
    Random.fill(UnsafeMutableRawBufferPointer(start: nonce, count: AEAD.nonceCount))
    context.seal(
      nonce: nonce, associatedData: associatedData, plain: UnsafeRawBufferPointer(body),
      into: start, tag: tag)
  }

  /// Opens where the bytes are.
  func open(
    _ body: UnsafeMutableRawBufferPointer, associatedData: UnsafeRawBufferPointer,
    nonce: UnsafeRawPointer, tag: UnsafeRawPointer
  ) throws(CryptoError) {
    guard let start = body.baseAddress else { preconditionFailure("a body has an address") }
    let context = try takeContext()
    defer { contexts.give(context) }
    try context.open(
      nonce: nonce, associatedData: associatedData, cipher: UnsafeRawBufferPointer(body),
      into: start, tag: tag)
  }
}

extension Sealer.Parts {
  /// Lends body, associated data, nonce and tag to what changes them in place.
  fileprivate mutating func change(
    _ associatedData: [UInt8],
    _ call: (
      _ body: UnsafeMutableRawBufferPointer, _ data: UnsafeRawBufferPointer,
      _ nonce: UnsafeMutableRawPointer, _ tag: UnsafeMutableRawPointer
    ) throws(CryptoError) -> Void
  ) throws(CryptoError) {
    var (nonce, tag, body) = (nonce, tag, body)
    // One byte more, so that an empty body has an address too.
    body.append(0)
    try body.withUnsafeMutableBytesTyped { (body) throws(CryptoError) in
      try nonce.withUnsafeMutableBytesTyped { (nonce) throws(CryptoError) in
        try tag.withUnsafeMutableBytesTyped { (tag) throws(CryptoError) in
          try associatedData.withUnsafeBytesTyped { (data) throws(CryptoError) in
            // SAFETY: neither array is empty, so each has an address.
            guard let nonce = nonce.baseAddress, let tag = tag.baseAddress else {
              preconditionFailure("non-empty arrays have addresses")
            }
            try call(.init(rebasing: body.dropLast()), data, nonce, tag)
          }
        }
      }
    }
    body.removeLast()
    self = Sealer.Parts(nonce: nonce, tag: tag, body: body)
  }
}
