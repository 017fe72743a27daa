import CCrypto

/// AES-256-SIV, RFC 5297: deterministic authenticated encryption of short strings such as names.
///
/// Built on AES-CBC and single AES blocks rather than libcrypto's own SIV, which allocates for every
/// call and before 3.0.10 left empty associated data unauthenticated (CVE-2023-2975). Safe to use
/// from several threads at once.
public struct SIV: Sendable {
  /// Length of a key, in bytes.
  public static let keyCount = 64
  /// How much longer a sealed string is, in bytes.
  public static let overhead = 16

  /// Associated data that was taken in once, for many strings to be sealed or opened with.
  public struct Prefix: Sendable {
    fileprivate let state: Block
  }

  private let key: SecretBytes
  private let contexts = Pool<SIVContext>()

  /// Takes a secret of exactly 64 bytes.
  ///
  /// - Parameter key: The MAC key and the encryption key, 32 bytes each.
  /// - Throws: `.unavailable` where libcrypto lacks AES, `.outOfMemory`.
  public init(key: SecretBytes) throws(CryptoError) {
    precondition(key.count == SIV.keyCount, "an AES-256-SIV key has 64 bytes")
    try self.init(anyKey: key)
  }

  /// Also takes the 32-byte keys of AES-128-SIV, which the RFC's examples use.
  init(anyKey key: SecretBytes) throws(CryptoError) {
    self.key = key
    contexts.give(try SIVContext(key: key))
  }

  /// Takes associated data in.
  ///
  /// - Parameter associatedData: At most 126 strings, each authenticated in its place.
  /// - Returns: What stands for them in `seal` and `open`.
  /// - Throws: `.outOfMemory`.
  public func prefix(_ associatedData: [[UInt8]]) throws(CryptoError) -> Prefix {
    let context = try takeContext()
    defer { contexts.give(context) }
    return Prefix(state: context.state(after: associatedData))
  }

  /// Encrypts; the same arguments always give the same result.
  ///
  /// - Parameters:
  ///   - plain: The bytes to seal; may be empty.
  ///   - prefix: The associated data.
  /// - Returns: The 16-byte synthetic IV, then as many bytes as `plain` has.
  /// - Throws: `.outOfMemory`.
  public func seal(_ plain: [UInt8], after prefix: Prefix) throws(CryptoError) -> [UInt8] {
    let context = try takeContext()
    defer { contexts.give(context) }
    return withUnsafeTemporaryAllocation(byteCount: plain.count + SIV.overhead, alignment: 8) {
      output in
      let body = UnsafeMutableRawBufferPointer(rebasing: output[SIV.overhead...])
      let vector = plain.withUnsafeBytes { plain in
        let vector = context.syntheticVector(plain, prefix.state)
        context.applyKeystream(vector, to: plain, into: body)
        return vector
      }
      vector.store(to: output, at: 0)
      return [UInt8](output)
    }
  }

  /// Encrypts a string whose associated data no other has.
  ///
  /// - Parameters:
  ///   - plain: The bytes to seal; may be empty.
  ///   - associatedData: At most 126 strings, each authenticated in its place.
  /// - Returns: As above.
  /// - Throws: `.outOfMemory`.
  public func seal(_ plain: [UInt8], associatedData: [[UInt8]]) throws(CryptoError) -> [UInt8] {
    try seal(plain, after: try prefix(associatedData))
  }

  /// Verifies and decrypts.
  ///
  /// - Parameters:
  ///   - sealed: What `seal` returned.
  ///   - prefix: The associated data sealed with.
  /// - Returns: The bytes that were sealed.
  /// - Throws: `.authenticationFailed` (also for fewer than 16 bytes), `.outOfMemory`.
  public func open(_ sealed: [UInt8], after prefix: Prefix) throws(CryptoError) -> [UInt8] {
    guard sealed.count >= SIV.overhead else { throw .authenticationFailed }
    let context = try takeContext()
    defer { contexts.give(context) }
    let count = sealed.count - SIV.overhead
    let plain = withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) { output in
      defer { output.wipe() }
      let authentic = sealed.withUnsafeBytes { sealed in
        let vector = Block(sealed, at: 0)
        let body = UnsafeRawBufferPointer(rebasing: sealed[SIV.overhead...])
        context.applyKeystream(vector, to: body, into: output)
        let expected = context.syntheticVector(UnsafeRawBufferPointer(output), prefix.state)
        return expected.equalsInConstantTime(vector)
      }
      return authentic ? [UInt8](output) : nil
    }
    guard let plain else { throw .authenticationFailed }
    return plain
  }

  /// Verifies and decrypts a string whose associated data no other has.
  ///
  /// - Parameters:
  ///   - sealed: What `seal` returned.
  ///   - associatedData: The strings sealed with, in the same order.
  /// - Returns: The bytes that were sealed.
  /// - Throws: As above.
  public func open(_ sealed: [UInt8], associatedData: [[UInt8]]) throws(CryptoError) -> [UInt8] {
    try open(sealed, after: try prefix(associatedData))
  }

  private func takeContext() throws(CryptoError) -> SIVContext {
    if let context = contexts.take() { return context }
    return try SIVContext(key: key)
  }
}

/// A 16-byte AES block as two big-endian words.
struct Block: Equatable {
  var high: UInt64
  var low: UInt64

  static let zero = Block(high: 0, low: 0)

  init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  init(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
    high = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self))
  }

  func store(to bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
    bytes.storeBytes(of: high.bigEndian, toByteOffset: offset, as: UInt64.self)
    bytes.storeBytes(of: low.bigEndian, toByteOffset: offset + 8, as: UInt64.self)
  }

  static func ^ (left: Block, right: Block) -> Block {
    Block(high: left.high ^ right.high, low: left.low ^ right.low)
  }

  /// Multiplication by x in GF(2^128), without a branch on the secret (RFC 5297, section 2.3).
  var doubled: Block {
    let carry = 0 &- (high >> 63)
    return Block(high: high << 1 | low >> 63, low: (low << 1) ^ (carry & 0x87))
  }

  func equalsInConstantTime(_ other: Block) -> Bool {
    (high ^ other.high) | (low ^ other.low) == 0
  }
}

/// The keyed ciphers behind one SIV call; whoever took it from the pool is its only user.
///
/// No call sets an initialisation vector, which costs libcrypto more than a few blocks do.
private final class SIVContext: @unchecked Sendable {
  private let chaining: CipherContext
  private let counter: CipherContext
  /// The last block that CBC gave, which it adds to the next one.
  private var link = Block.zero
  /// CMAC's two subkeys (RFC 4493, section 2.3) and S2V's starting point.
  private var wholeKey = Block.zero
  private var partialKey = Block.zero
  private var start = Block.zero

  init(key: SecretBytes) throws(CryptoError) {
    let bytes = UnsafeRawBufferPointer(key.storage)
    let half = bytes.count / 2
    let short = half == 16
    chaining = try CipherContext(
      short ? .aes128CBC : .aes256CBC, key: UnsafeRawBufferPointer(rebasing: bytes[..<half]))
    counter = try CipherContext(
      short ? .aes128ECB : .aes256ECB, key: UnsafeRawBufferPointer(rebasing: bytes[half...]))
    withExtendedLifetime(key) {}
    withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { scratch in
      Block.zero.store(to: scratch, at: 0)
      wholeKey = chain(scratch).doubled
      partialKey = wholeKey.doubled
      Block.zero.store(to: scratch, at: 0)
      start = mac(scratch, count: 16)
    }
  }

  /// What S2V (RFC 5297, section 2.4) has computed before it comes to the plaintext.
  func state(after associatedData: [[UInt8]]) -> Block {
    var state = start
    for data in associatedData {
      let part = data.withUnsafeBytes { data in
        withScratch(data) { scratch in mac(scratch, count: data.count) }
      }
      state = state.doubled ^ part
    }
    return state
  }

  /// S2V's end.
  func syntheticVector(_ plain: UnsafeRawBufferPointer, _ state: Block) -> Block {
    withScratch(plain) { scratch in
      if plain.count >= 16 {
        let end = plain.count - 16
        (Block(UnsafeRawBufferPointer(scratch), at: end) ^ state).store(to: scratch, at: end)
        return mac(scratch, count: plain.count)
      }
      pad(scratch, from: plain.count)
      (Block(UnsafeRawBufferPointer(scratch), at: 0) ^ state.doubled).store(to: scratch, at: 0)
      return mac(scratch, count: 16)
    }
  }

  /// AES-CTR from the vector with two bits cleared (RFC 5297, section 2.6).
  func applyKeystream(
    _ vector: Block, to input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
  ) {
    guard !input.isEmpty else { return }
    // With its top bit cleared the lower half cannot overflow.
    var block = Block(high: vector.high, low: vector.low & 0x7FFF_FFFF_7FFF_FFFF)
    let whole = (input.count + 15) / 16 * 16
    withUnsafeTemporaryAllocation(byteCount: whole, alignment: 8) { stream in
      for offset in stride(from: 0, to: whole, by: 16) {
        block.store(to: stream, at: offset)
        block.low += 1
      }
      encrypt(counter.raw, stream)
      for index in 0..<input.count { output[index] = input[index] ^ stream[index] }
      stream.wipe()
    }
  }

  /// CMAC (RFC 4493) of the first `count` bytes; `scratch` is overwritten and has room for padding.
  private func mac(_ scratch: UnsafeMutableRawBufferPointer, count: Int) -> Block {
    let whole = count > 0 && count.isMultiple(of: 16)
    let end = whole ? count - 16 : count / 16 * 16
    if !whole { pad(scratch, from: count) }
    let last = Block(UnsafeRawBufferPointer(scratch), at: end)
    (last ^ (whole ? wholeKey : partialKey)).store(to: scratch, at: end)
    return chain(UnsafeMutableRawBufferPointer(rebasing: scratch[..<(end + 16)]))
  }

  /// The last block of AES-CBC from a zero vector; whole blocks, encrypted in place.
  private func chain(_ blocks: UnsafeMutableRawBufferPointer) -> Block {
    // Takes away what CBC goes on from.
    (Block(UnsafeRawBufferPointer(blocks), at: 0) ^ link).store(to: blocks, at: 0)
    encrypt(chaining.raw, blocks)
    link = Block(UnsafeRawBufferPointer(blocks), at: blocks.count - 16)
    return link
  }

  /// Whole blocks, in place.
  private func encrypt(_ context: OpaquePointer, _ blocks: UnsafeMutableRawBufferPointer) {
    guard let base = blocks.baseAddress?.assumingMemoryBound(to: UInt8.self) else {
      preconditionFailure("at least one block")
    }
    var written: Int32 = 0
    let done = EVP_EncryptUpdate(context, base, &written, base, Int32(blocks.count)) == 1
    // A keyed block cipher given a length that fits an Int32 has no way to fail.
    precondition(done && Int(written) == blocks.count, "libcrypto refused to encrypt")
  }

  /// The padding both CMAC and S2V use: a one bit, then zeros to the end of the block.
  private func pad(_ scratch: UnsafeMutableRawBufferPointer, from count: Int) {
    scratch[count] = 0x80
    for index in (count + 1)..<max(count + 1, (count / 16 + 1) * 16) { scratch[index] = 0 }
  }

  /// A copy of `bytes` with a block of room behind, wiped afterwards.
  private func withScratch(
    _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeMutableRawBufferPointer) -> Block
  ) -> Block {
    withUnsafeTemporaryAllocation(byteCount: bytes.count + 16, alignment: 8) { scratch in
      scratch.copyMemory(from: bytes)
      defer { scratch.wipe() }
      return body(scratch)
    }
  }
}
