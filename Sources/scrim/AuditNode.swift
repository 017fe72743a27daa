import Container

/// What a directory of a vault holds, with all that is below it.
final class AuditNode {
  /// Files of one mode.
  struct Share {
    var files: UInt64 = 0
    /// Of the backing files.
    var bytes: UInt64 = 0

    static func += (left: inout Share, right: Share) {
      left.files += right.files
      left.bytes += right.bytes
    }
  }

  /// A file that is stored as it is.
  struct PlainFile {
    let name: [UInt8]
    let bytes: UInt64
  }

  /// What only the owner sees of a directory.
  struct Policy {
    var content: ContentPolicy
    var names: String
    var rules: Int
    /// Files that are stored otherwise than policy and rules say.
    var unconverted: UInt64 = 0
  }

  let name: [UInt8]
  /// The files directly in it.
  var own: [ContentPolicy: Share] = [:]
  /// Those and all below.
  var all: [ContentPolicy: Share] = [:]
  var plainFiles: [PlainFile] = []
  var children: [AuditNode] = []
  /// Names and link targets, of all below, that anyone can read.
  var readableNames: UInt64 = 0
  var entries: UInt64 = 0
  var readableTargets: UInt64 = 0
  var links: UInt64 = 0
  /// Why it could not be looked at.
  var problem: String?
  var policy: Policy?

  init(_ name: [UInt8]) { self.name = name }

  var bytes: UInt64 { all.values.reduce(0) { $0 + $1.bytes } }
  var files: UInt64 { all.values.reduce(0) { $0 + $1.files } }
  /// Content that anyone can read.
  var readableBytes: UInt64 { (all[.plain]?.bytes ?? 0) + (all[.compressed]?.bytes ?? 0) }

  func add(_ policy: ContentPolicy, name: [UInt8], bytes: UInt64) {
    own[policy, default: Share()] += Share(files: 1, bytes: bytes)
    if policy == .plain { plainFiles.append(PlainFile(name: name, bytes: bytes)) }
  }

  /// Sums up what is below; call once, after all children were added.
  func finish() {
    all = own
    for child in children {
      for (policy, share) in child.all { all[policy, default: Share()] += share }
      readableNames += child.readableNames
      entries += child.entries
      readableTargets += child.readableTargets
      links += child.links
    }
    children.sort {
      $0.bytes == $1.bytes ? $0.name.lexicographicallyPrecedes($1.name) : $0.bytes > $1.bytes
    }
    plainFiles.sort { $0.bytes > $1.bytes }
  }

  /// In the owner's eyes: by policy, mixed, or not converted; nil where all is as it should be.
  var state: String? {
    guard let policy else { return nil }
    if policy.unconverted > 0 { return "\(policy.unconverted) not as the policy says" }
    if own.filter({ $0.value.files > 0 }).count > 1 { return "mixed by rules" }
    return policy.content == .plain ? "plain by policy" : nil
  }
}
