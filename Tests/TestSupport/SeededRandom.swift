import Glibc

/// SplitMix64: the same seed gives the same numbers on every machine.
///
/// SCRIM_SEED replaces the default seed, SCRIM_ROUNDS multiplies how often random tests repeat.
public struct SeededRandom: RandomNumberGenerator, Sendable {
  /// The seed of every run that does not ask for another.
  public static let defaultSeed: UInt64 = 0x5EED_0F5C_2100_0001

  private var state: UInt64

  /// Starts from a seed.
  public init(seed: UInt64) {
    state = seed
  }

  /// Starts from SCRIM_SEED or the default, and prints which, so that a failure can be repeated.
  ///
  /// - Parameter purpose: Tells several generators of one run apart, in the output and in what
  ///   they give.
  public init(for purpose: String) {
    let seed = SeededRandom.environmentNumber("SCRIM_SEED") ?? SeededRandom.defaultSeed
    print("\(purpose): SCRIM_SEED=\(seed)")
    // FNV-1a, as Swift's own hashes change from run to run.
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in purpose.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    state = seed ^ hash
  }

  /// How often to repeat something: `base` times SCRIM_ROUNDS, which is 1 by default.
  public static func rounds(_ base: Int) -> Int {
    base * Int(clamping: environmentNumber("SCRIM_ROUNDS") ?? 1)
  }

  /// The next 64 bits.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  /// The next bytes.
  public mutating func bytes(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count {
      withUnsafeBytes(of: next().littleEndian) { bytes.append(contentsOf: $0) }
    }
    bytes.removeLast(bytes.count - count)
    return bytes
  }

  /// True once in `denominator` times on average.
  public mutating func chance(oneIn denominator: Int) -> Bool {
    Int.random(in: 0..<denominator, using: &self) == 0
  }

  private static func environmentNumber(_ name: String) -> UInt64? {
    guard let value = getenv(name) else { return nil }
    return UInt64(String(cString: value))
  }
}
