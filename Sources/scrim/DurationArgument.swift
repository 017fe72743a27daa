import ArgumentParser

/// A length of time from the command line: `90`, `90s`, `10m`, `1h30m`, `2d`.
struct DurationArgument: ExpressibleByArgument, Sendable {
  let milliseconds: UInt64

  /// Nil for what is no duration, for none at all, and for more than ten years.
  init?(argument: String) {
    var total: UInt64 = 0
    var digits = ""
    for character in argument + (argument.last?.isNumber == true ? "s" : "") {
      if character.isASCII, character.isNumber {
        digits.append(character)
        continue
      }
      // At most nine digits, so that nothing overflows.
      guard let unit = Self.seconds(character), digits.count < 10, let count = UInt64(digits)
      else { return nil }
      total += count * unit
      digits = ""
    }
    guard digits.isEmpty, (1...Self.longest).contains(total) else { return nil }
    milliseconds = total * 1000
  }

  private static let longest: UInt64 = 3650 * 86400

  private static func seconds(_ unit: Character) -> UInt64? {
    switch unit {
    case "s": 1
    case "m": 60
    case "h": 3600
    case "d": 86400
    default: nil
    }
  }
}
