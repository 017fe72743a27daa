import Logging
import Synchronization

/// One line for each integrity failure, but never a flood: a damaged file that a program reads again
/// and again is named once a minute, and no more than a handful of lines come in a second.
final class IntegrityLog: Sendable {
  private struct Contents {
    /// When a path was last named, in monotonic milliseconds.
    var lastLine: [String: UInt64] = [:]
    var second: UInt64 = 0
    var linesThisSecond = 0
    var suppressed: UInt64 = 0
  }

  private static let repeatAfter: UInt64 = 60_000
  private static let linesPerSecond = 10
  private static let rememberedPaths = 256

  private let log: Logger
  private let contents = Mutex(Contents())

  init(_ log: Logger) { self.log = log }

  /// Says once that `path` (plain) is damaged and why.
  func report(path: String, _ error: any Error) {
    guard let suppressed = admit(path, at: Clock.milliseconds()) else { return }
    let more = suppressed > 0 ? " (\(suppressed) similar lines left out)" : ""
    log.error("\(Self.quoted(path)): \(ErrnoMap.reason(error))\(more)")
  }

  /// How many lines were left out since the last one, or nil to leave this one out too.
  func admit(_ path: String, at now: UInt64) -> UInt64? {
    contents.withLock { contents in
      if let last = contents.lastLine[path], now < last + Self.repeatAfter {
        contents.suppressed += 1
        return nil
      }
      if contents.second != now / 1000 {
        contents.second = now / 1000
        contents.linesThisSecond = 0
      }
      guard contents.linesThisSecond < Self.linesPerSecond else {
        contents.suppressed += 1
        return nil
      }
      contents.linesThisSecond += 1
      if contents.lastLine.count >= Self.rememberedPaths {
        contents.lastLine = contents.lastLine.filter { now < $0.value + Self.repeatAfter }
        if contents.lastLine.count >= Self.rememberedPaths { contents.lastLine = [:] }
      }
      contents.lastLine[path] = now
      let suppressed = contents.suppressed
      contents.suppressed = 0
      return suppressed
    }
  }

  /// A path on one line, whatever bytes a name has.
  static func quoted(_ path: String) -> String {
    let printable = path.unicodeScalars.map { scalar -> Unicode.Scalar in
      scalar.properties.generalCategory == .control ? "?" : scalar
    }
    return String(String.UnicodeScalarView(printable))
  }
}
