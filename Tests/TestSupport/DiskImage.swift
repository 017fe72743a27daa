import Primitives
import SystemPackage

/// One change of a folder's files, as the backing filesystem sees it. Files and directories are
/// numbers in the order in which they were met; 0 is the folder.
public enum DiskChange: Sendable {
  /// A new file, directory or link, with its name unless it has none.
  case make(Int, FileKind, target: [UInt8], in: Int?, name: [UInt8])
  /// Another name.
  case link(Int, in: Int, name: [UInt8])
  /// A name, or an empty directory, removed.
  case unlink(in: Int, name: [UInt8])
  /// A name moved, or two of them swapped.
  case rename(from: Int, [UInt8], to: Int, [UInt8], isExchange: Bool)
  /// An extended attribute set, or removed.
  case setAttribute(Int, [UInt8], [UInt8]?)
  /// Bytes written at an offset.
  case write(Int, Int, [UInt8])
  /// The length set.
  case resize(Int, Int)
  /// fsync(2).
  case sync(Int)
  /// fdatasync(2).
  case syncData(Int)
  /// syncfs(2).
  case syncAll
}

/// A folder with everything in it, in memory.
public struct DiskImage: Sendable {
  /// A file, directory, or link.
  struct Node: Sendable, Hashable {
    var kind: FileKind
    var target: [UInt8] = []
    var entries: [[UInt8]: Int] = [:]
    var attributes: [[UInt8]: [UInt8]] = [:]
    var content: [UInt8] = []
  }

  var nodes: [Int: Node] = [0: Node(kind: .directory)]

  /// Follows a change of names or attributes; others are left to who knows the content.
  mutating func apply(_ change: DiskChange) {
    switch change {
    case .make(let node, let kind, let target, let directory, let name):
      nodes[node] = Node(kind: kind, target: target)
      if let directory { nodes[directory]?.entries[name] = node }
    case .link(let node, let directory, let name): nodes[directory]?.entries[name] = node
    case .unlink(let directory, let name): nodes[directory]?.entries[name] = nil
    case .rename(let from, let old, let into, let new, let isExchange):
      let moved = nodes[from]?.entries[old]
      let replaced = nodes[into]?.entries[new]
      nodes[from]?.entries[old] = isExchange ? replaced : nil
      nodes[into]?.entries[new] = moved
    case .setAttribute(let node, let name, let value): nodes[node]?.attributes[name] = value
    case .write, .resize, .sync, .syncData, .syncAll: break
    }
  }

  /// Equal for states that cannot be told apart.
  public var fingerprint: Int {
    var hasher = Hasher()
    var waiting = [0]
    var seen: Set<Int> = []
    while let number = waiting.popLast() {
      guard seen.insert(number).inserted, let node = nodes[number] else { continue }
      hasher.combine(number)
      hasher.combine(node)
      waiting += node.entries.values.sorted()
    }
    return hasher.finalize()
  }

  /// Makes the files in an empty folder.
  ///
  /// - Parameter folder: A descriptor of it.
  /// - Throws: What a call gave.
  public func write(to folder: Int32) throws(Errno) {
    var made: [Int: Place] = [:]
    try write(0, SharedFD(try Sys.duplicate(folder)), &made)
  }

  private typealias Place = (directory: SharedFD, name: [UInt8])

  private func write(_ number: Int, _ folder: SharedFD, _ made: inout [Int: Place]) throws(Errno) {
    guard let entries = nodes[number]?.entries else { return }
    let directory = folder.rawValue
    for (name, child) in entries {
      guard let node = nodes[child] else { continue }
      if let first = made[child] {
        try Sys.linkat(first.directory.rawValue, first.name, directory, name)
        continue
      }
      made[child] = (folder, name)
      switch node.kind {
      case .directory:
        try Sys.mkdirat(directory, name, mode: 0o755)
        let inner = SharedFD(try Sys.openat(directory, name, [.readOnly, .directory]))
        try node.writeAttributes(to: inner.rawValue)
        try write(child, inner, &made)
      case .symbolicLink: try Sys.symlinkat(target: node.target, directory, name)
      case .regular:
        let file = try Sys.openat(directory, name, [.readWrite, .create, .exclusive], mode: 0o644)
        try node.writeContent(to: file.rawValue)
        try node.writeAttributes(to: file.rawValue)
      default:
        try Sys.mknodat(directory, name, mode: UInt32(node.kind.rawValue) << 12 | 0o644)
      }
    }
  }
}

extension DiskImage.Node {
  fileprivate func writeAttributes(to descriptor: Int32) throws(Errno) {
    for (name, value) in attributes { try Sys.fsetxattr(descriptor, name, value) }
  }

  fileprivate func writeContent(to descriptor: Int32) throws(Errno) {
    let result = content.withUnsafeBytes { bytes -> Result<Void, Errno> in
      do throws(Errno) {
        return .success(try Sys.pwrite(descriptor, bytes, at: 0))
      } catch {
        return .failure(error)
      }
    }
    try result.get()
  }
}
