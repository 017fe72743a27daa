import Glibc
@testable import Primitives
import TestSupport
import Testing

@Suite struct SecretTests {
  @Test(arguments: [0, 1, 32, 64, 65, 4096, 10000])
  func aSecretHoldsItsBytesAndStartsZeroed(count: Int) {
    var random = SeededRandom(for: "secrets \(count)")
    for _ in 0..<100 {
      let bytes = random.bytes(count)
      let secret = SecretBytes(count: count) { memory in
        // The slot may have held another secret before.
        #expect(memory.allSatisfy { $0 == 0 })
        memory.copyBytes(from: bytes)
      }
      #expect(secret.count == count)
      #expect(secret.withUnsafeBytes { [UInt8]($0) } == bytes)
      #expect(secret == SecretBytes(copying: bytes))
    }
  }

  @Test func secretsDoNotOverlap() {
    let secrets = (0..<3000).map { index in
      SecretBytes(copying: [UInt8](repeating: UInt8(index % 251), count: 64))
    }
    for (index, secret) in secrets.enumerated() {
      #expect(secret.withUnsafeBytes { $0.allSatisfy { $0 == UInt8(index % 251) } })
    }
  }

  @Test(arguments: [32, 5000])
  func secretsAreLockedAndLeftOutOfCoreDumps(count: Int) throws {
    let secret = SecretBytes.random(count: count)
    let address = UInt(bitPattern: secret.storage.baseAddress)
    let flags = try #require(mappingFlags(at: address))
    #expect(flags.contains("dd"), "may be dumped: \(flags)")
    // Where little may be locked, secrets go without.
    let probe = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { probe.deallocate() }
    guard (try? Sys.mlock(UnsafeRawBufferPointer(probe))) != nil else { return }
    munlock(probe.baseAddress, probe.count)
    #expect(flags.contains("lo"), "may be swapped: \(flags)")
  }

  @Test func aFailedInitialisationPassesItsErrorOn() {
    #expect(throws: CryptoError.outOfMemory) {
      _ = try SecretBytes(count: 32) { _ throws(CryptoError) in throw .outOfMemory }
    }
  }

  @Test func comparisonSeesEveryByteAndTheLength() {
    let bytes = [UInt8](0..<40)
    let secret = SecretBytes(copying: bytes)
    for index in bytes.indices {
      var other = bytes
      other[index] ^= 0x80
      #expect(secret != SecretBytes(copying: other))
      #expect(!ConstantTime.equal(bytes, other))
    }
    #expect(secret != secret.slice(0..<39))
    #expect(secret.slice(3..<5) == SecretBytes(copying: [3, 4]))
    #expect(ConstantTime.equal([], []))
    #expect(!ConstantTime.equal([], [0]))
  }

  @Test func wipingLeavesZeros() {
    var bytes = [UInt8](repeating: 1, count: 100)
    bytes.wipe()
    #expect(bytes == [UInt8](repeating: 0, count: 100))
    [UInt8]().withUnsafeBytes { UnsafeMutableRawBufferPointer(mutating: $0).wipe() }
  }

  /// The VmFlags that /proc/self/smaps shows for the mapping an address is in.
  private func mappingFlags(at address: UInt) -> [Substring]? {
    guard let file = fopen("/proc/self/smaps", "r") else { return nil }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 8192)
    var inside = false
    while fgets(&line, Int32(line.count), file) != nil {
      let text = String(
        decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      let words = text.split(whereSeparator: \.isWhitespace)
      if inside, words.first == "VmFlags:" { return Array(words.dropFirst()) }
      let bounds = (words.first ?? "").split(separator: "-")
      if bounds.count == 2, let low = UInt(bounds[0], radix: 16),
        let high = UInt(bounds[1], radix: 16)
      {
        inside = (low..<high).contains(address)
      }
    }
    return nil
  }
}

@Suite struct RandomTests {
  @Test func requestsOfEverySizeAreFilled() {
    for count in [0, 1, 12, 1023, 1024, 4088, 4096, 100_000] {
      #expect(Random.bytes(count).count == count)
    }
    // 64 bytes that are all zero, or equal, mean that nothing was filled.
    let samples = (0..<1000).map { _ in Random.bytes(64) }
    #expect(Set(samples).count == samples.count)
    #expect(!samples.contains([UInt8](repeating: 0, count: 64)))
  }

  @Test func threadsGetDifferentBytes() async {
    let samples = await withTaskGroup(of: [UInt64].self) { group in
      for _ in 0..<8 { group.addTask { (0..<2000).map { _ in Random.uint64() } } }
      return await group.reduce(into: []) { $0 += $1 }
    }
    #expect(Set(samples).count == samples.count)
  }

  /// A child that went on with its parent's buffer would repeat nonces.
  @Test func aForkedChildGetsOtherBytes() throws {
    _ = Random.uint64()
    // Swift hides fork because little is allowed in such a child; this one makes no Swift object.
    let symbol = try #require(dlsym(nil, "fork"))
    let fork = unsafeBitCast(symbol, to: (@convention(c) () -> pid_t).self)
    var ends: [Int32] = [0, 0]
    try #require(pipe(&ends) == 0)
    defer { ends.forEach { close($0) } }
    let output = ends[1]
    let child = fork()
    if child == 0 {
      var value = Random.uint64()
      let written = write(output, &value, 8)
      _exit(written == 8 ? 0 : 1)
    }
    try #require(child > 0)
    let mine = Random.uint64()
    var theirs: UInt64 = 0
    #expect(read(ends[0], &theirs, 8) == 8)
    var status: Int32 = 0
    #expect(waitpid(child, &status, 0) == child)
    #expect(theirs != mine)
  }
}
