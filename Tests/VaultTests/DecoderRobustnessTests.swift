import TestSupport
import Testing

/// Seeded mutations of valid bytes: what `make fuzz` does for minutes, for seconds.
@Suite struct DecoderRobustnessTests {
  @Test(arguments: DecoderInput.allCases) func mutatedBytesNeverTrap(_ input: DecoderInput) {
    var random = SeededRandom(for: "decoder \(input.rawValue)")
    let seeds = input.seeds
    #expect(!seeds.isEmpty)
    for seed in seeds { #expect(input.feed(seed)) }
    let rounds = SeededRandom.rounds(
      input == .container || input == .slot ? 250 : 2500)
    for round in 0..<rounds {
      let bytes = Self.mutated(seeds[round % seeds.count], &random)
      #expect(input.feed(bytes), "round \(round)")
    }
  }

  /// A few changes of the kinds that break decoders.
  private static func mutated(_ seed: [UInt8], _ random: inout SeededRandom) -> [UInt8] {
    var bytes = seed
    for _ in 0..<Int.random(in: 1...6, using: &random) {
      guard !bytes.isEmpty else { return random.bytes(40) }
      // Headers and the first fields matter most.
      let reach = random.chance(oneIn: 2) ? min(bytes.count, 200) : bytes.count
      let at = Int.random(in: 0..<reach, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 2:
        // A number at its limits.
        let value: UInt8 = random.chance(oneIn: 2) ? 0xFF : 0
        for index in at..<min(bytes.count, at + 8) { bytes[index] = value }
      case 3: bytes.removeLast(bytes.count - at)
      case 4: bytes += random.bytes(Int.random(in: 1...64, using: &random))
      default:
        let count = min(64, bytes.count - at)
        let from = Int.random(in: 0...(bytes.count - count), using: &random)
        bytes.replaceSubrange(at..<(at + count), with: Array(bytes[from..<(from + count)]))
      }
    }
    return bytes
  }
}
