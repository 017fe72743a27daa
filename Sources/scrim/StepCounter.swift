import Primitives

/// Shows on a terminal how many entries a walk has seen, once it takes longer than a second.
final class StepCounter {
  private var line = ProgressLine()
  private var count = 0
  private let isShown = ProgressLine.isPossible
  private var next = Sys.monotonic().seconds + 1

  func step() {
    count += 1
    // The clock is not asked for every entry.
    guard isShown, count & 63 == 0, Sys.monotonic().seconds > next else { return }
    next = Sys.monotonic().seconds
    line.draw("\(count) entries …")
  }

  func end() { line.clear() }
}
