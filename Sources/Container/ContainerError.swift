import Primitives
import SystemPackage

/// Why an operation on a container failed. The container stays usable, its commits stay intact.
public enum ContainerError: Error, Sendable, Equatable {
  /// The backing file gave an error.
  case io(Errno)
  /// Bytes of the backing file are not what was written.
  case damaged(Damage)
  /// The offset or size is beyond what a container can hold: 2^57 bytes.
  case tooLarge
  /// The container is secret, or to be written, and there is no key.
  case keyMissing
  /// libcrypto or memory failed.
  case crypto(CryptoError)
}

/// What is wrong with a container, and where.
public struct Damage: Error, Sendable, Hashable, CustomStringConvertible {
  /// What is wrong.
  public enum Kind: Sendable, Hashable {
    /// The backing file has no bytes.
    case empty
    /// Neither header slot is a container's.
    case notAContainer
    /// A header slot is neither valid nor unused.
    case slotInvalid
    /// The header slots contradict each other.
    case slotsDisagree
    /// The other header slot should hold the commit before, but is empty.
    case slotMissing
    /// A later commit than this one was seen before.
    case rolledBack
    /// Pages that must be there are beyond the end of the backing file.
    case missingPages
    /// Pages do not have the tag their reference states.
    case wrongTag
    /// A reference, node, block or list breaks the format's rules.
    case malformed
    /// A block does not decompress.
    case undecodable
    /// Free pages overlap each other or pages in use.
    case freeListOverlap
  }

  /// What is wrong.
  public let kind: Kind
  /// First page concerned.
  public let page: UInt64

  init(_ kind: Kind, page: UInt64) {
    self.kind = kind
    self.page = page
  }

  /// One line for logs; says nothing about names or content.
  public var description: String {
    let what =
      switch kind {
      case .empty: "the backing file is empty"
      case .notAContainer: "not a container"
      case .slotInvalid: "a header slot is damaged"
      case .slotsDisagree: "the header slots disagree"
      case .rolledBack: "an older state of the file was put back"
      case .slotMissing: "a header slot is missing"
      case .missingPages: "pages are missing"
      case .wrongTag: "pages were changed"
      case .malformed: "a structure is malformed"
      case .undecodable: "a block does not decompress"
      case .freeListOverlap: "the free list is inconsistent"
      }
    return "\(what) (page \(page))"
  }
}
