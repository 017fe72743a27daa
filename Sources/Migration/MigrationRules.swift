public import Container
import Vault

/// What happens to the files whose path matches a pattern.
public struct MigrationRule: Sendable {
  /// What happens to them.
  public enum Action: Sendable, Equatable {
    /// They stay where they are.
    case exclude
    /// They are stored in this mode.
    case store(ContentPolicy)
  }

  /// What happens to what matches.
  public let action: Action
  private let pattern: ContentRule
  private let matchesPaths: Bool

  /// Takes a pattern: `*` stands for any bytes, slashes included, `?` for one byte.
  ///
  /// - Parameters:
  ///   - pattern: 1 to 255 bytes. With a slash in it, but for one at its end, it is matched with the whole path
  ///     below the source, else with the name alone.
  ///   - action: What happens to what matches.
  public init?(pattern: [UInt8], action: Action) {
    let slash = UInt8(ascii: "/")
    let inner = pattern.last == slash ? pattern.dropLast() : pattern[...]
    let trimmed = Array(inner.first == slash ? inner.dropFirst() : inner)
    guard let rule = ContentRule(pattern: trimmed, policy: .plain) else { return nil }
    self.pattern = rule
    self.action = action
    matchesPaths = inner.contains(slash)
  }

  func matches(path: [UInt8], name: [UInt8]) -> Bool {
    pattern.matches(matchesPaths ? path : name)
  }
}

/// What a migration is to do.
public struct MigrationOptions: Sendable {
  /// The first rule that matches counts; where none does, the directory's policy.
  public var rules: [MigrationRule] = []
  /// Whether sources are removed once they are safely in the vault.
  public var moves = false
  /// Whether everything is read back and compared, also what an earlier run brought in.
  public var verifies = false

  /// Copies by the directories' policies.
  public init() {}

  func action(path: [UInt8], name: [UInt8]) -> MigrationRule.Action? {
    rules.first { $0.matches(path: path, name: name) }?.action
  }
}

/// What a migration or an export says while it runs. Events come from several threads.
public enum MigrationEvent: Sendable {
  /// What became of a file.
  public enum Outcome: String, Sendable {
    /// Its content was copied.
    case copied
    /// It was moved into the backing folder as it is.
    case adopted
    /// It got another name of a file that was copied before.
    case linked
    /// It was there already.
    case present
    /// It is stored in another mode now.
    case converted
  }

  /// A file, link or special file is done; `bytes` is its size.
  case finished(path: [UInt8], Outcome, bytes: UInt64)
  /// Part of a file was copied.
  case copying(path: [UInt8], bytes: UInt64)
  /// Something was not done, or not kept.
  case problem(path: [UInt8], MigrationProblem)
}

/// Something that was not done, or not kept.
public enum MigrationProblem: Sendable {
  /// It was left where it is.
  case failed(String)
  /// It is in its new place, but for this.
  case notKept(String)
  /// It does not authenticate, so it was left out.
  case damaged(String)
  /// Somebody writes to it, so it was left as it is.
  case busy(String)

  /// One line about it.
  public var text: String {
    switch self {
    case .failed(let text), .notKept(let text), .damaged(let text), .busy(let text): text
    }
  }
}

/// Who hears of events and says when to stop.
public struct MigrationObserver: Sendable {
  /// Takes an event.
  public let report: @Sendable (MigrationEvent) -> Void
  /// Whether the user wants an end.
  public let wantsStop: @Sendable () -> Bool

  /// Joins the two.
  ///
  /// - Parameters:
  ///   - report: Hears of everything that happens; called from several threads at once.
  ///   - wantsStop: Asked before each file, and within large ones.
  public init(
    report: @escaping @Sendable (MigrationEvent) -> Void,
    wantsStop: @escaping @Sendable () -> Bool
  ) {
    self.report = report
    self.wantsStop = wantsStop
  }

  /// Tells of copied bytes.
  ///
  /// - Throws: `.stopped` if the user wants an end.
  func copied(_ path: [UInt8], _ bytes: UInt64) throws(TransferError) {
    report(.copying(path: path, bytes: bytes))
    if wantsStop() { throw .stopped }
  }
}

/// How a migration or an export ended.
public enum MigrationEnd: Sendable {
  /// Everything was gone through; problems were reported.
  case complete
  /// It was asked to stop, and can be started again.
  case stopped
  /// It could not go on, such as with a full disk; it can be started again.
  case failed(TransferError)
}
