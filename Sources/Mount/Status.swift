import Container
import Glibc
import Primitives
import Synchronization
import SystemPackage
import Vault

/// What is known of the mount once the kernel has answered.
struct MountFacts: Sendable {
  var mountPoint = ""
  var negotiated: Negotiated?
  /// See ``CallersFirst``; nil until somebody has looked.
  var callersFirst: Bool?
}

/// What `scrim status` shows; docs/cli.md describes the JSON.
extension FileSystem {
  /// The kernel takes attribute values of at most 64 KiB, so the list of open files may be cut.
  private static let statusLimit = 56 << 10

  func statusJSON() -> [UInt8] {
    let facts = facts.withLock { $0 }
    let inodes = table.openInodes().filter { users(of: $0) > 0 }
    var files: [JSON] = []
    var size = 0
    for inode in inodes {
      guard let file = describeOpen(inode) else { continue }
      size += file.encoded.count + 1
      if size > Self.statusLimit { break }
      files.append(file)
    }
    return JSON.object([
      ("version", .number(1)),
      ("vault", .string(vault.path)),
      ("mountpoint", .string(facts.mountPoint)),
      ("pid", .number(UInt64(getpid()))),
      ("readOnly", .bool(isReadOnly)),
      ("passthrough", passthrough(facts)),
      ("transport", Self.transport(facts)),
      ("plain", plainCounters()),
      ("sealed", Self.json(counters.sealed)),
      ("compressed", Self.json(counters.compressed)),
      ("sealedCompressed", Self.json(counters.sealedCompressed)),
      ("requests", .number(counters.requests.load(ordering: .relaxed))),
      (
        "caches",
        .object([
          ("blocks", Self.json(vault.blockCache)), ("names", Self.json(vault.nameCache)),
        ])
      ),
      ("integrityFailures", .number(counters.integrityFailures.load(ordering: .relaxed))),
      ("inodes", .number(UInt64(table.count))),
      ("openFiles", .array(files)),
      ("openFilesTotal", .number(UInt64(inodes.count))),
    ]).encoded
  }

  private func describeOpen(_ inode: Inode) -> JSON? {
    guard let file = inode.file, let descriptor = file.sharedDescriptor() else { return nil }
    let mode = file.sharedContainer()?.policy ?? .plain
    return .object([
      ("path", .string(path(inode))),
      ("backing", .string(backingPath(inode, descriptor))),
      ("mode", .string(mode.name)),
      ("passthrough", .bool(backing?.isPassthrough(inode: inode.nodeid) ?? false)),
      ("opens", .number(UInt64(users(of: inode)))),
    ])
  }

  /// How often a file is open; closed files that wait for their sync are not.
  func users(of inode: Inode) -> Int {
    inode.state.withLock { state in max(state.file?.users ?? 0, 0) }
  }

  /// The backing file of an open file. What its descriptor was opened by may be gone since; then
  /// another name of it is looked for.
  private func backingPath(_ inode: Inode, _ descriptor: SharedFD) -> String {
    let path = Self.backingPath(descriptor.rawValue)
    guard path.hasSuffix(" (deleted)"), let place = try? locate(inode),
      let parent = try? place.directory.descriptor()
    else { return path }
    let name = String(decoding: place.entry.backingName, as: UTF8.self)
    return "\(Self.backingPath(parent.rawValue))/\(name)"
  }

  /// Where a descriptor leads now.
  static func backingPath(_ descriptor: Int32) -> String {
    String(decoding: backingPathBytes(descriptor), as: UTF8.self)
  }

  /// As above; names in it need not be UTF-8.
  static func backingPathBytes(_ descriptor: Int32) -> [UInt8] {
    let link = [UInt8]("/proc/self/fd/\(descriptor)".utf8)
    return (try? Sys.readlinkat(Sys.currentDirectory, link)) ?? []
  }

  private func passthrough(_ facts: MountFacts) -> JSON {
    var state = "userspace"
    var reason: String? = "not negotiated yet"
    switch facts.negotiated?.passthrough {
    case .active:
      state = "kernel"
      reason = nil
    case .unavailable(let text): reason = text
    case nil: break
    }
    return .object([
      ("state", .string(state)), ("reason", .optional(reason)),
      ("opens", .number(counters.passthroughOpens.load(ordering: .relaxed))),
      ("backingFiles", .number(UInt64(max(backing?.count ?? 0, 0)))),
    ])
  }

  private static func transport(_ facts: MountFacts) -> JSON {
    guard let negotiated = facts.negotiated else { return .object([("kind", .string("device"))]) }
    var reason: String?
    if case .unavailable(let text) = negotiated.ioUring { reason = text }
    let (kind, threads) =
      switch negotiated.transport {
      case .device(let workers): ("device", workers)
      case .rings(let queues, _): ("io_uring", queues)
      }
    return .object([
      ("kind", .string(kind)), ("threads", .number(UInt64(max(threads, 0)))),
      ("reason", .optional(reason)), ("callersFirst", facts.callersFirst.map(JSON.bool) ?? .null),
    ])
  }

  private func plainCounters() -> JSON {
    guard case .object(let members) = Self.json(counters.plain) else { return .null }
    // Whatever is counted for plain files came through user space.
    return .object(
      members + [
        ("userspaceReads", .number(counters.plain.reads.load(ordering: .relaxed))),
        ("userspaceWrites", .number(counters.plain.writes.load(ordering: .relaxed))),
      ])
  }

  private static func json(_ cache: CacheCounters) -> JSON {
    .object([("hits", .number(cache.hits)), ("misses", .number(cache.misses))])
  }

  private static func json(_ counters: ModeCounters) -> JSON {
    .object([
      ("opens", .number(counters.opens.load(ordering: .relaxed))),
      ("reads", .number(counters.reads.load(ordering: .relaxed))),
      ("writes", .number(counters.writes.load(ordering: .relaxed))),
      ("bytesRead", .number(counters.bytesRead.load(ordering: .relaxed))),
      ("bytesWritten", .number(counters.bytesWritten.load(ordering: .relaxed))),
    ])
  }
}
