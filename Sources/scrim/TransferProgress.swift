import Container
import FoundationEssentials
import Glibc
import Migration
import Primitives
import Synchronization

/// Shows how a migration or an export goes on, and what came of it.
///
/// SIGINT and SIGTERM are held back from when one of these exists: the file that is being copied is
/// finished first. SIGQUIT ends the command at once, which does no harm either.
final class TransferProgress: Sendable {
  let showsBar: Bool
  private let json: Bool
  private let state = Mutex(State())
  private let started = Sys.monotonic()

  private struct State {
    var counts: [MigrationEvent.Outcome: UInt64] = [:]
    /// Bytes of finished files.
    var bytes: UInt64 = 0
    /// As they are copied, for the rate.
    var copied: UInt64 = 0
    /// Of files that were there or only had to be renamed: with what is copied, how far it is.
    var passed: UInt64 = 0
    var plan: MigrationPlan?
    var problems: [TransferProblem] = []
    var drawn = TimeSpec(seconds: 0, nanoseconds: 0)
    var line = ProgressLine()
  }

  init(json: Bool) {
    self.json = json
    showsBar = !json && ProgressLine.isPossible
    var held = sigset_t()
    sigemptyset(&held)
    for signal in [SIGINT, SIGTERM] { sigaddset(&held, signal) }
    pthread_sigmask(SIG_BLOCK, &held, nil)
    state.withLock { $0.drawn = started }
  }

  var observer: MigrationObserver {
    MigrationObserver(report: { self.report($0) }, wantsStop: { Self.wasInterrupted })
  }

  private static var wasInterrupted: Bool {
    var pending = sigset_t()
    sigpending(&pending)
    return sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1
  }

  // MARK: Events

  private func report(_ event: MigrationEvent) {
    state.withLock { state in
      switch event {
      case .finished(let path, let outcome, let bytes):
        state.counts[outcome, default: 0] += 1
        state.bytes += bytes
        if outcome == .present || outcome == .adopted { state.passed += bytes }
        if json {
          emit(TransferLine(event: "file", path: path, outcome: outcome.rawValue, bytes: bytes))
        }
        draw(path, &state)
      case .copying(let path, let bytes):
        state.copied += bytes
        draw(path, &state)
      case .problem(let path, let problem):
        let found = TransferProblem(path, problem)
        state.problems.append(found)
        if json { emit(found.line) }
      }
    }
  }

  private func emit(_ line: TransferLine) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let bytes = try? encoder.encode(line) else { return }
    // A reader that went away loses only the report.
    try? Output.write(Array(bytes) + [UInt8(ascii: "\n")])
  }

  /// The bar, several times a second; on what is no terminal a line every few seconds.
  private func draw(_ path: [UInt8], _ state: inout State) {
    guard !json else { return }
    let now = Sys.monotonic()
    guard Self.seconds(from: state.drawn, to: now) >= (showsBar ? 0.2 : 5) else { return }
    state.drawn = now
    let elapsed = max(Self.seconds(from: started, to: now), 0.001)
    let files = state.counts.values.reduce(0, +)
    let rate = UInt64(Double(state.copied) / elapsed)
    let done = max(state.bytes, state.passed + state.copied)
    var text = "\(files) files, \(StatusText.bytes(done)), \(StatusText.bytes(rate))/s"
    if let total = state.plan?.total, total.bytes > 0, showsBar {
      let share = min(1, Double(done) / Double(total.bytes))
      if share > 0.01 { text += ", \(Int(elapsed / share - elapsed)) s left" }
      text = "\(Int(share * 100)) %, " + text
      // Where there is room for it and for a part of the name.
      if ProgressLine.room >= text.columns + 36 { text = Self.bar(share) + text }
    }
    let name = StatusText.safe(String(decoding: path, as: UTF8.self))
    guard showsBar else {
      return Array("\(text)  \(name)\n".utf8).withUnsafeBytes {
        _ = Descriptor.writeAll(STDERR_FILENO, $0)
      }
    }
    let room = ProgressLine.room - text.columns - 2
    state.line.draw(room < 12 ? text : "\(text)  \(name.shortened(to: room))")
  }

  private static func bar(_ share: Double) -> String {
    let filled = Int(share * 20)
    return "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: 20 - filled)
      + "] "
  }

  private static func seconds(from start: TimeSpec, to end: TimeSpec) -> Double {
    Double(end.seconds - start.seconds)
      + (Double(end.nanoseconds) - Double(start.nanoseconds)) / 1_000_000_000
  }

  // MARK: The plan

  func expect(_ plan: MigrationPlan) {
    state.withLock { $0.plan = plan }
  }

  func showPlan() throws {
    guard let plan = state.withLock({ $0.plan }) else { return }
    if json {
      var line = TransferLine(event: "plan")
      line.modes = plan.modes.reduce(into: [:]) {
        $0[$1.key.name] = TransferLine.Share(files: $1.value.files, bytes: $1.value.bytes)
      }
      line.excluded = TransferLine.Share(files: plan.excluded.files, bytes: plan.excluded.bytes)
      line.directories = plan.directories
      line.others = plan.others
      line.unreadable = plan.unreadable
      line.spaceNeeded = plan.spaceNeeded
      return emit(line)
    }
    for policy in ContentPolicy.allCases {
      guard let share = plan.modes[policy] else { continue }
      try Output.line(
        policy.name.padded(to: 18) + "\(share.files) files, \(StatusText.bytes(share.bytes))")
    }
    if plan.excluded.files > 0 {
      try Output.line(
        "left out          \(plan.excluded.files), \(StatusText.bytes(plan.excluded.bytes))")
    }
    try Output.line("directories       \(plan.directories)")
    try Output.line("links, devices    \(plan.others)")
    if plan.unreadable > 0 { try Output.line("unreadable        \(plan.unreadable)") }
    try Output.line("space needed      \(StatusText.bytes(plan.spaceNeeded))")
  }

  // MARK: The end

  func finish(_ end: MigrationEnd) throws {
    let (counts, problems, bytes) = state.withLock { state in
      state.line.clear()
      return (state.counts, state.problems, state.bytes)
    }
    if json {
      var line = TransferLine(event: "end", bytes: bytes)
      line.counts = counts.reduce(into: [:]) { $0[$1.key.rawValue] = $1.value }
      line.problems = UInt64(problems.count)
      line.outcome =
        switch end {
        case .complete: "complete"
        case .stopped: "stopped"
        case .failed: "failed"
        }
      emit(line)
    } else {
      for problem in problems { try Output.write(problem.text) }
      let parts = ["copied", "adopted", "linked", "converted", "present"].compactMap {
        word -> String? in
        guard let outcome = MigrationEvent.Outcome(rawValue: word), let count = counts[outcome]
        else { return nil }
        return "\(count) \(word)"
      }
      let list = parts.isEmpty ? "nothing to do" : parts.joined(separator: ", ")
      let ending = problems.isEmpty ? "" : "; \(problems.count) problems"
      try Output.line("\(list) (\(StatusText.bytes(bytes)))\(ending)")
    }
    switch end {
    case .failed(let error):
      throw Failure(.system, "\(error.text); the same command goes on from here")
    case .stopped: throw Failure(.system, "interrupted; the same command goes on from here")
    case .complete: break
    }
    if problems.contains(where: { $0.kind == "damaged" }) { throw Exit.damaged.code }
    if !problems.isEmpty { throw Exit.incomplete.code }
  }
}

/// A problem for the list at the end.
private struct TransferProblem: Sendable {
  let kind: String
  private let path: [UInt8]
  private let reason: String

  init(_ path: [UInt8], _ problem: MigrationProblem) {
    self.path = path.isEmpty ? [UInt8(ascii: ".")] : path
    reason = problem.text
    kind =
      switch problem {
      case .failed: "failed"
      case .notKept: "notKept"
      case .damaged: "damaged"
      case .busy: "busy"
      }
  }

  /// The line, in which no name can begin another one.
  var text: [UInt8] {
    let word = kind == "notKept" ? "not kept" : kind
    let bytes = Array("\(word): ".utf8) + path + Array(": \(reason)".utf8)
    return bytes.map { $0 < 32 || $0 == 127 ? UInt8(ascii: "?") : $0 } + [UInt8(ascii: "\n")]
  }

  var line: TransferLine {
    var line = TransferLine(event: "problem", path: path)
    line.kind = kind
    line.reason = reason
    return line
  }
}

/// One line of `--json`; what does not belong to its event is absent.
private struct TransferLine: Encodable {
  struct Share: Encodable {
    let files: UInt64
    let bytes: UInt64
  }

  let event: String
  var path: String?
  var pathBase64: String?
  var outcome: String?
  var bytes: UInt64?
  var kind: String?
  var reason: String?
  var counts: [String: UInt64]?
  var problems: UInt64?
  var modes: [String: Share]?
  var excluded: Share?
  var directories: UInt64?
  var others: UInt64?
  var unreadable: UInt64?
  var spaceNeeded: UInt64?

  init(event: String, path: [UInt8]? = nil, outcome: String? = nil, bytes: UInt64? = nil) {
    self.event = event
    self.outcome = outcome
    self.bytes = bytes
    guard let path else { return }
    self.path = String(validating: path, as: UTF8.self)
    if self.path == nil { pathBase64 = Data(path).base64EncodedString() }
  }
}
