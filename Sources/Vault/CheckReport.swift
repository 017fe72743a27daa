import Primitives

/// How bad something is that a check found.
public enum CheckSeverity: Int, Sendable, Comparable {
  /// Nothing is wrong; a tool or an interruption left a trace.
  case note
  /// Nothing is lost, but it is not as it should be.
  case harmless
  /// Stored bytes are not what was written, or not where they belong.
  case damage

  /// Orders by how bad it is.
  public static func < (left: CheckSeverity, right: CheckSeverity) -> Bool {
    left.rawValue < right.rawValue
  }
}

/// One thing a check found.
public struct CheckFinding: Sendable {
  /// How bad it is.
  public let severity: CheckSeverity
  /// The plain path from the root, beginning with `/`; for files of the vault itself and for names
  /// that do not decode, their path in the vault's folder, which does not begin so.
  public let path: [UInt8]
  /// What it is, without names.
  public let reason: String
  /// What repair did about it.
  public let outcome: CheckOutcome
}

/// What became of a finding.
public enum CheckOutcome: Sendable {
  /// Nothing was tried.
  case left
  /// It is as it should be now; the text says what was done.
  case repaired(String)
  /// Repair was tried in vain; the text says why.
  case failed(String)
}

/// What a check is to do.
public struct CheckOptions: Sendable {
  /// Whether every block is read.
  public var isDeep: Bool
  /// Whether what is found is repaired as far as it can be.
  public var repairs: Bool
  /// Name of the folder in the vault's that takes what is moved aside.
  public var lostAndFound: String

  /// Joins them.
  public init(isDeep: Bool, repairs: Bool, lostAndFound: String) {
    self.isDeep = isDeep
    self.repairs = repairs
    self.lostAndFound = lostAndFound
  }
}

/// How far a check has come, and in the end what it has seen.
public struct CheckProgress: Sendable {
  /// Directories whose entries were looked at.
  public var directories: UInt64 = 0
  /// Other entries.
  public var files: UInt64 = 0
  /// Bytes of backing files that were read and verified.
  public var bytes: UInt64 = 0

  /// Nothing yet.
  public init() {}

  /// Entries of every kind.
  public var entries: UInt64 { directories + files }
}

/// A vault opened to be checked.
public struct CheckedVault: Sendable {
  /// nil if even its root directory cannot be opened.
  public let vault: Vault?
  /// Who has the vault open for writing, so that what changes meanwhile may be reported.
  public let writer: String?
  /// What opening it found.
  public let findings: [CheckFinding]

  let base: SharedFD
}
