import Container
import Primitives
import Synchronization
import SystemPackage
import Vault

/// A directory of a mount, which others may be writing to: everything is done by system calls.
final class MountReceiver: Receiver {
  private let base: SharedFD
  /// Names from `base` to this directory.
  private let place: [[UInt8]]
  private let control: MountControl
  private let state = Mutex(State())

  private struct State {
    var descriptor: SharedFD?
    var isResting = false
    var policies: MountControl.Policies?
  }

  private static let temporaryPrefix = Array(".scrim-migrate.".utf8)

  init(_ base: SharedFD, _ place: [[UInt8]], _ control: MountControl) {
    self.base = base
    self.place = place
    self.control = control
  }

  private func open() throws(TransferError) -> SharedFD {
    if let known = state.withLock({ $0.descriptor }) { return known }
    let opened = try openFolder(base, place)
    state.withLock { if !$0.isResting { $0.descriptor = opened } }
    return opened
  }

  func rest() {
    state.withLock { ($0.descriptor, $0.isResting) = (nil, true) }
  }

  func find(_ name: [UInt8]) throws(TransferError) -> Received? {
    let folder = try open()
    do throws(Errno) {
      let status = try Sys.statx(folder.rawValue, name)
      return Received(
        kind: status.kind, identity: status.identity, modified: status.mtime, size: status.size)
    } catch .noSuchFileOrDirectory {
      return nil
    } catch {
      throw .outside(error, "looking in the mount")
    }
  }

  func enter(_ name: [UInt8]) -> any Receiver { MountReceiver(base, place + [name], control) }

  func makeFolder(_ name: [UInt8], mode: UInt32) throws(TransferError) -> any Receiver {
    let folder = try open()
    try attempting("making a directory") { () throws(Errno) in
      try Sys.mkdirat(folder.rawValue, name, mode: mode)
    }
    return enter(name)
  }

  func policy(for name: [UInt8]) throws(TransferError) -> ContentPolicy {
    let policies: MountControl.Policies
    if let known = state.withLock({ $0.policies }) {
      policies = known
    } else {
      policies = try control.policies(try open())
      state.withLock { $0.policies = policies }
    }
    return policies.rules.first { $0.matches(name) }?.policy ?? policies.content
  }

  func removeLeftovers() throws(TransferError) {
    let folder = try open()
    var names: [[UInt8]] = []
    try attempting("reading a directory") { () throws(Errno) in
      try Sys.forEachEntry(of: folder.rawValue) {
        if $0.name.starts(with: Self.temporaryPrefix) { names.append([UInt8]($0.name)) }
        return true
      }
    }
    for name in names { try? Sys.unlinkat(folder.rawValue, name) }
  }

  func itself() throws(TransferError) -> ReceivedNode {
    ReceivedNode(descriptor: try open(), target: .outside)
  }

  func node(_ name: [UInt8]) throws(TransferError) -> ReceivedNode {
    let folder = try open()
    let opened = try attempting("opening it in the mount") { () throws(Errno) in
      SharedFD(try Sys.openat(folder.rawValue, name, [.path, .noFollow]))
    }
    return ReceivedNode(descriptor: opened, target: .outside)
  }

  func readLink(_ name: [UInt8]) throws(TransferError) -> [UInt8] {
    let folder = try open()
    return try attempting("reading a link") { () throws(Errno) in
      try Sys.readlinkat(folder.rawValue, name)
    }
  }

  func makeLink(_ name: [UInt8], target: [UInt8]) throws(TransferError) {
    let folder = try open()
    try attempting("making a link") { () throws(Errno) in
      try Sys.symlinkat(target: target, folder.rawValue, name)
    }
  }

  func makeNode(_ name: [UInt8], mode: UInt32, device: UInt64) throws(TransferError) {
    let folder = try open()
    try attempting("making a special file") { () throws(Errno) in
      try Sys.mknodat(folder.rawValue, name, mode: mode, device: device)
    }
  }

  // MARK: Files

  func begin(_ name: [UInt8], _ wanted: ContentPolicy) throws(TransferError) -> any ReceivedFile {
    let folder = try open()
    let temporary = Self.temporaryPrefix + Base64URL.encode(Random.bytes(12))
    // Not opened yet: the mode of a file that somebody has open does not change.
    try attempting("creating a file") { () throws(Errno) in
      try Sys.mknodat(
        folder.rawValue, temporary, mode: UInt32(FileKind.regular.rawValue) << 12 | 0o600,
        device: 0)
    }
    do throws(TransferError) {
      // Rules go by the name a file is made with.
      if try policy(for: temporary) != wanted {
        try control.setMode(folder, temporary, wanted)
      }
      let opened = try attempting("creating a file") { () throws(Errno) in
        SharedFD(try Sys.openat(folder.rawValue, temporary, [.readWrite, .noFollow]))
      }
      return File(folder: folder, temporary: temporary, name: name, descriptor: opened)
    } catch {
      try? Sys.unlinkat(folder.rawValue, temporary)
      throw error
    }
  }

  private struct File: ReceivedFile {
    let folder: SharedFD
    let temporary: [UInt8]
    let name: [UInt8]
    let descriptor: SharedFD

    var content: Content { .outside(descriptor) }
    var node: ReceivedNode { ReceivedNode(descriptor: descriptor, target: .outside) }

    /// The mount commits what is written to it, and the metadata that follows has the time.
    func commit(modified: TimeSpec) {}

    func finish(replacing: Bool) throws(TransferError) {
      try attempting("naming a file") { () throws(Errno) in
        try Sys.renameat2(
          folder.rawValue, temporary, folder.rawValue, name, flags: replacing ? [] : .noReplace)
      }
    }

    func cancel() { try? Sys.unlinkat(folder.rawValue, temporary) }
  }

  /// Files are moved into the backing folder only where no mount knows it.
  func adopt(_ item: Item, keepsSource: Bool) -> Bool { false }

  func link(
    _ first: any Receiver, _ other: [UInt8], as name: [UInt8]
  ) throws(TransferError) -> Bool {
    guard let from = first as? MountReceiver else { return false }
    let (source, folder) = (try from.open(), try open())
    do throws(Errno) {
      try Sys.linkat(source.rawValue, other, folder.rawValue, name)
      return true
    } catch .improperLink {
      // This directory stores such names in another mode.
      return false
    } catch {
      throw .outside(error, "making a hard link")
    }
  }

  func content(
    _ name: [UInt8], size: UInt64
  ) throws(TransferError) -> (Content, SharedFD)? {
    let folder = try open()
    let file = try attempting("opening it in the mount") { () throws(Errno) in
      SharedFD(try Sys.openat(folder.rawValue, name, [.readOnly, .noFollow, .nonBlocking]))
    }
    let status = try attempting("looking at it in the mount") { () throws(Errno) in
      try Sys.fstatx(file.rawValue)
    }
    guard status.kind == .regular, status.size == size else { return nil }
    return (.outside(file), file)
  }

  func sync() throws(TransferError) {
    let folder = try open()
    try attempting("syncing a directory") { () throws(Errno) in try Sys.fsync(folder.rawValue) }
  }

  var syncsEverything: Bool { false }
}
