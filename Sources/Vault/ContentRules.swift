public import Container

/// What happens to the names in a directory (format §1).
public enum NamePolicy: UInt8, Sendable, CaseIterable {
  /// Stored as they are.
  case plain = 0
  /// Encrypted.
  case sealed = 1

  /// The word for it in commands and output.
  public var name: String {
    switch self {
    case .plain: "plain"
    case .sealed: "sealed"
    }
  }

  /// Reads the word back.
  public init?(name: String) {
    guard let policy = NamePolicy.allCases.first(where: { $0.name == name }) else { return nil }
    self = policy
  }
}

/// Decides the content policy of new files by their names (format §5).
public struct ContentRule: Sendable, Equatable {
  /// `*` stands for any bytes, `?` for one; everything else for itself. 1 to 255 bytes.
  public let pattern: [UInt8]
  /// What files get whose whole name matches.
  public let policy: ContentPolicy

  /// Takes a pattern; nil for one that is empty or too long.
  ///
  /// - Parameters:
  ///   - pattern: 1 to 255 bytes.
  ///   - policy: What matching files get.
  public init?(pattern: [UInt8], policy: ContentPolicy) {
    guard (1...255).contains(pattern.count) else { return nil }
    self.pattern = pattern
    self.policy = policy
  }

  /// Whether the whole name matches. Takes time proportional to name times pattern at most.
  public func matches(_ name: [UInt8]) -> Bool {
    var nameIndex = 0
    var patternIndex = 0
    // Where to go back to: the last star, and how much of the name it takes so far.
    var star: Int?
    var taken = 0
    while nameIndex < name.count {
      if patternIndex < pattern.count, pattern[patternIndex] == UInt8(ascii: "*") {
        star = patternIndex
        taken = nameIndex
        patternIndex += 1
      } else if patternIndex < pattern.count,
        pattern[patternIndex] == UInt8(ascii: "?") || pattern[patternIndex] == name[nameIndex]
      {
        nameIndex += 1
        patternIndex += 1
      } else if let star {
        taken += 1
        nameIndex = taken
        patternIndex = star + 1
      } else {
        return false
      }
    }
    return pattern[patternIndex...].allSatisfy { $0 == UInt8(ascii: "*") }
  }
}

extension ContentPolicy {
  /// Position in the order of format §11: what hides more is stricter.
  var strictness: Int {
    switch self {
    case .plain: 0
    case .compressed: 1
    case .sealed: 2
    case .sealedCompressed: 3
    }
  }
}
