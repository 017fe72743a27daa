import Primitives

/// What becomes of a file's content on its way to the backing file.
public enum ContentPolicy: UInt8, Sendable, CaseIterable {
  /// Stored as it is; such files are not containers.
  case plain = 0
  /// Encrypted and authenticated, in blocks of 4 KiB.
  case sealed = 1
  /// Compressed and authenticated but not secret, in blocks of 128 KiB.
  case compressed = 2
  /// Compressed, then encrypted and authenticated, in blocks of 128 KiB.
  case sealedCompressed = 3

  /// The name people write: `plain`, `sealed`, `compressed` or `sealed-compressed`.
  public var name: String {
    switch self {
    case .plain: "plain"
    case .sealed: "sealed"
    case .compressed: "compressed"
    case .sealedCompressed: "sealed-compressed"
    }
  }

  /// The policy people call by a name; nil for any other text.
  public init?(name: String) {
    guard let policy = ContentPolicy.allCases.first(where: { $0.name == name }) else { return nil }
    self = policy
  }

  /// Whether content is encrypted, so that nobody reads it without the key.
  public var isSecret: Bool { self == .sealed || self == .sealedCompressed }

  /// Whether content is compressed.
  public var isCompressed: Bool { self == .compressed || self == .sealedCompressed }

  /// Binary logarithm of the block size, docs/format.md §8.1.
  var blockShift: UInt64 { isCompressed ? 17 : 12 }

  /// Bytes in a block.
  var blockSize: Int { 1 << Int(blockShift) }
}

/// The tie between a container and a name in a directory, docs/format.md §3; made by the vault.
public struct Binding: Sendable, Hashable {
  /// Length in bytes.
  public static let count = 16

  let low: UInt64
  let high: UInt64

  /// Takes the 16 bytes of a binding.
  ///
  /// - Parameter bytes: Exactly 16.
  public init(_ bytes: [UInt8]) {
    precondition(bytes.count == Binding.count, "a binding has 16 bytes")
    (low, high) = bytes.withUnsafeBytes { ($0.integer(at: 0), $0.integer(at: 8)) }
  }

  init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }

  /// The 16 bytes.
  public var bytes: [UInt8] {
    [UInt8](unsafeUninitializedCapacity: Binding.count) { buffer, count in
      let raw = UnsafeMutableRawBufferPointer(buffer)
      raw.store(low, at: 0)
      raw.store(high, at: 8)
      count = Binding.count
    }
  }
}

/// The random name of a container, from which its keys are derived; 16 bytes.
public struct FileID: Sendable, Hashable {
  let low: UInt64
  let high: UInt64

  /// The 16 bytes.
  public var bytes: [UInt8] { Binding(low: low, high: high).bytes }

  static func random() -> FileID {
    FileID(low: Random.uint64(), high: Random.uint64())
  }
}

/// What a new container is to be, and who writes it.
public struct ContainerParameters: Sendable {
  /// How the content is stored; not `.plain`.
  public var policy: ContentPolicy
  /// Number of the session that commits are recorded under, docs/format.md §10.
  public var session: UInt64
  /// The names the container may be found under, 16 at most.
  public var bindings: [Binding]

  /// Describes a container.
  public init(policy: ContentPolicy, session: UInt64, bindings: [Binding] = []) {
    precondition(policy != .plain, "plain files are not containers")
    precondition(bindings.count <= Format.bindingLimit, "a container holds 16 bindings at most")
    self.policy = policy
    self.session = session
    self.bindings = bindings
  }
}

/// Whether torn commits are excused for a file, docs/format.md §10. The vault decides, from the
/// change time of the backing file and the sessions that ended uncleanly.
public struct TornExcuse: Sendable {
  /// Whether they are, whatever the file says.
  public let isExcused: Bool
  /// Sessions that ended uncleanly: the newest commit is excused if it is theirs.
  public let sessions: [ClosedRange<UInt64>]

  /// States the decision.
  public init(isExcused: Bool, sessions: [ClosedRange<UInt64>] = []) {
    self.isExcused = isExcused
    self.sessions = sessions
  }

  /// Whether a whole slot may lack pages of its tree.
  func covers(_ header: Header) -> Bool {
    isExcused || sessions.contains { $0.contains(header.session) }
  }

  /// Nothing is excused.
  public static let none = TornExcuse(isExcused: false)
}
