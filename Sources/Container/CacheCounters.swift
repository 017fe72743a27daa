import Synchronization

/// How often something that was looked for was in memory already.
public final class CacheCounters: Sendable {
  private let found = Atomic<UInt64>(0)
  private let missed = Atomic<UInt64>(0)

  /// Begins at zero.
  public init() {}

  /// How often it was there.
  public var hits: UInt64 { found.load(ordering: .relaxed) }
  /// How often it had to be made or read.
  public var misses: UInt64 { missed.load(ordering: .relaxed) }

  /// It was there.
  public func countHit() { found.wrappingAdd(1, ordering: .relaxed) }

  /// It was not, so many times.
  public func countMiss(_ times: Int = 1) {
    missed.wrappingAdd(UInt64(truncatingIfNeeded: times), ordering: .relaxed)
  }
}
