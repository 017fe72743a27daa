import Primitives
import SystemPackage

/// How much work one guess of a passphrase costs.
public enum KeyCost: Sendable, Equatable {
  /// About 4 MiB and 10 ms; for tests and small devices.
  case low
  /// About 64 MiB and a fifth of a second.
  case standard
  /// About 256 MiB and a second.
  case high
  /// scrypt with this binary logarithm of N (10 to 22), r = 8 and this p (1 to 16).
  case scrypt(logN: UInt8, p: UInt32 = 1)

  /// What a guess of a present slot's passphrase costs.
  init(of slot: KeySlot) {
    guard case .scrypt(let logN, 8, let p) = slot.derivation else {
      self = .standard
      return
    }
    self = .scrypt(logN: UInt8(truncatingIfNeeded: logN), p: p)
  }

  var derivation: SlotDerivation {
    switch self {
    case .low: .scrypt(logN: 12, r: 8, p: 1)
    case .standard: .scrypt(logN: 16, r: 8, p: 1)
    case .high: .scrypt(logN: 18, r: 8, p: 1)
    case .scrypt(let logN, let p):
      .scrypt(logN: UInt32(min(max(logN, 10), 22)), r: 8, p: min(max(p, 1), 16))
    }
  }

  /// The least and the most that ``measured(milliseconds:)`` chooses: 16 MiB and 1 GiB, so that what one machine
  /// found bearable is not beyond the next one.
  private static let measuredLogN: ClosedRange<UInt8> = 14...20

  /// The cost at which a guess takes this machine about so long, found by trying; that takes up to twice as long.
  ///
  /// Memory comes first, since it is what an attacker with special hardware pays for, up to a quarter of this machine's.
  ///
  /// - Parameter milliseconds: How long a guess should take.
  /// - Returns: A cost that takes between half of that and all of it, where the limits above allow it.
  /// - Throws: `.system(.noMemory)`.
  public static func measured(milliseconds: UInt64) throws(VaultError) -> KeyCost {
    let target = Double(milliseconds) / 1000
    var logN = measuredLogN.lowerBound
    // The first run also brings the processor up to speed.
    _ = try seconds(logN)
    var took = try seconds(logN)
    while logN < measuredLogN.upperBound, took * 2 <= target,
      Sys.physicalMemory / 4 >= UInt64(1024) << UInt64(logN + 1)
    {
      logN += 1
      took = try seconds(logN)
    }
    return .scrypt(logN: logN, p: UInt32(min(max(target / took, 1), 16)))
  }

  private static func seconds(_ logN: UInt8) throws(VaultError) -> Double {
    let begin = Sys.monotonic()
    do {
      _ = try KeyDerivation.scrypt(
        passphrase: SecretBytes(copying: Array("measured".utf8)), salt: Array("salt".utf8),
        logN: logN, r: 8, p: 1)
    } catch {
      throw .system(.noMemory, "measuring what a guess costs: \(error)")
    }
    let end = Sys.monotonic()
    let nanoseconds = Double(end.nanoseconds) - Double(begin.nanoseconds)
    return max(Double(end.seconds - begin.seconds) + nanoseconds / 1e9, 1e-6)
  }
}
