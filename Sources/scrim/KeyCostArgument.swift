import ArgumentParser
import Vault

/// What a guess of a passphrase is to cost: a word, or a time that is measured on this machine.
enum KeyCostArgument: ExpressibleByArgument, Equatable {
  case low, standard, high
  case time(milliseconds: UInt64)

  /// Times are from 10 ms to a minute: `2s`, `500ms`.
  init?(argument: String) {
    switch argument {
    case "low": self = .low
    case "default": self = .standard
    case "high": self = .high
    default:
      let isShort = argument.hasSuffix("ms")
      let time =
        isShort ? UInt64(argument.dropLast(2)) : DurationArgument(argument: argument)?.milliseconds
      guard let time, argument.first != "+", (10...60_000).contains(time) else { return nil }
      self = .time(milliseconds: time)
    }
  }

  static var defaultCompletionKind: CompletionKind { .list(["low", "default", "high", "1s"]) }

  var defaultValueDescription: String { "default" }

  /// The cost, measured where it is a time.
  func cost() throws -> KeyCost {
    switch self {
    case .low: return .low
    case .standard: return .standard
    case .high: return .high
    case .time(let milliseconds):
      return try Patience.during("measuring how long a guess takes here") {
        try KeyCost.measured(milliseconds: milliseconds)
      }
    }
  }

  /// Tells what came of a time, since it depends on the machine.
  func tell(_ slot: KeySlot) throws(Failure) {
    guard case .time = self else { return }
    try Output.line("a guess of the passphrase costs \(SlotFacts(slot).kdf)")
  }
}
