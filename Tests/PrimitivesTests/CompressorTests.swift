import Primitives
import TestSupport
import Testing

@Suite struct CompressorTests {
  private let compressor = Compressor()

  private func compress(_ bytes: [UInt8], capacity: Int, level: Int = 3) -> [UInt8]? {
    var frame = [UInt8](repeating: 0, count: capacity)
    let count = bytes.withUnsafeBytes { source in
      frame.withUnsafeMutableBytes { compressor.compress(source, into: $0, level: level) }
    }
    return count.map { [UInt8](frame[..<$0]) }
  }

  /// The content, after checking that nothing was written behind `capacity`.
  private func decompress(_ frame: [UInt8], capacity: Int) -> Result<[UInt8], ZstdError> {
    var content = [UInt8](repeating: 0xAA, count: capacity + 64)
    let result = frame.withUnsafeBytes { source in
      content.withUnsafeMutableBytes { content -> Result<Int, ZstdError> in
        let space = UnsafeMutableRawBufferPointer(rebasing: content[..<capacity])
        do throws(ZstdError) {
          return .success(try compressor.decompress(source, into: space))
        } catch {
          return .failure(error)
        }
      }
    }
    #expect(content[capacity...].allSatisfy { $0 == 0xAA }, "wrote behind the destination")
    return result.map { [UInt8](content[..<$0]) }
  }

  @Test(arguments: [0, 1, 100, 4096, 131072])
  func contentReturns(count: Int) throws {
    var random = SeededRandom(for: "zstd \(count)")
    let text = (0..<count).map { _ in UInt8.random(in: 97...100, using: &random) }
    for level in [-100, -5, 0, 1, 3, 19, 1000] {
      let frame = try #require(compress(text, capacity: count + 100, level: level))
      #expect(decompress(frame, capacity: count) == .success(text))
      #expect(decompress(frame, capacity: count + 10) == .success(text))
      if count > 0 { #expect(decompress(frame, capacity: count - 1) == .failure(.tooLarge)) }
    }
  }

  @Test func aFrameThatDoesNotFitIsNil() {
    var random = SeededRandom(for: "zstd incompressible")
    let noise = random.bytes(4096)
    #expect(compress(noise, capacity: 4095) == nil)
    #expect(compress(noise, capacity: 0) == nil)
    // The context goes on working.
    let text = [UInt8](repeating: 1, count: 4096)
    #expect(compress(text, capacity: 100).map { decompress($0, capacity: 4096) } == .success(text))
  }

  @Test func onlyOneWholeFrameIsAccepted() throws {
    let frame = try #require(compress([UInt8](repeating: 7, count: 1000), capacity: 1000))
    for count in 0..<frame.count {
      #expect(decompress([UInt8](frame[..<count]), capacity: 1000) == .failure(.corrupt))
    }
    let skippable = hex("502a4d18 04000000 00000000")
    for wrong in [frame + [0], frame + frame, frame + skippable, skippable + frame, skippable] {
      #expect(decompress(wrong, capacity: 5000) == .failure(.corrupt))
    }
    // One raw block "abc" in a frame that does not state its content size.
    #expect(decompress(hex("28b52ffd 00 00 190000 616263"), capacity: 100) == .failure(.corrupt))
    // The same with its size.
    #expect(
      decompress(hex("28b52ffd 20 03 190000 616263"), capacity: 3) == .success([97, 98, 99]))
    // Too large and too small a size.
    for size in ["04", "02"] {
      let frame = hex("28b52ffd 20 \(size) 190000 616263")
      #expect(decompress(frame, capacity: 100) == .failure(.corrupt))
    }
  }

  @Test func bombsAreRejectedWithoutGrowing() {
    // Sizes of 1 GiB and 2^63 in the frame header.
    for size in ["0000004000000000", "0000000000000080"] {
      let frame = hex("28b52ffd e0 \(size) 0300 10 00")
      #expect(decompress(frame, capacity: 131072) == .failure(.tooLarge))
    }
    // A frame that states 10 bytes and holds a thousand blocks of 128 KiB, four bytes each.
    let block = hex("02 00 10 61")
    let last = hex("03 00 10 61")
    let blocks = [[UInt8]](repeating: block, count: 999).flatMap { $0 } + last
    #expect(decompress(hex("28b52ffd 20 0a") + blocks, capacity: 131072) == .failure(.corrupt))
  }

  @Test func damagedFramesNeverWriteBeyondTheDestination() throws {
    var random = SeededRandom(for: "zstd damage")
    let text = (0..<5000).map { UInt8($0 / 40 & 0x7F) } + random.bytes(500)
    let frame = try #require(compress(text, capacity: 10000, level: 9))
    for _ in 0..<SeededRandom.rounds(3000) {
      var damaged = frame
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let index = Int.random(in: damaged.indices, using: &random)
        damaged[index] = UInt8.random(in: 0...255, using: &random)
      }
      if random.chance(oneIn: 4) { damaged.removeLast(Int.random(in: 0...200, using: &random)) }
      _ = decompress(damaged, capacity: text.count)
    }
  }
}
