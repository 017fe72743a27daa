import Glibc
import Primitives
import SystemCallSeam
import SystemPackage

/// Logs what a thread changes in a folder, by watching its system calls.
public final class DiskRecorder: CallWatcher {
  /// The folder as it was when recording began; all of it is on the medium.
  public private(set) var start = DiskImage()
  /// What was done since.
  public private(set) var log: [DiskChange] = []

  private struct Inode: Hashable {
    let device: UInt64
    let number: UInt64
  }

  private var numbers: [Inode: Int] = [:]
  /// Keeps inode numbers from being given to other files.
  private var held: [SharedFD] = []
  private var existed = false
  /// What is logged instead of a change; nil for nothing. Lets a test leave syncs out on purpose.
  private let filter: (DiskChange) -> DiskChange?

  /// Reads the folder.
  public init(
    _ folder: Int32, filter: @escaping (DiskChange) -> DiskChange? = { $0 }
  ) throws(Errno) {
    self.filter = filter
    try read(folder)
  }

  /// Notes whether a call that may create finds a file.
  public func before(_ call: borrowing WatchedCall) -> Errno? {
    if call.kind == seam_open, call.flags & O_CREAT != 0 {
      existed = (try? Sys.statx(call.descriptor, call.name, fields: .type)) != nil
    }
    return nil
  }

  /// Logs a call.
  public func after(_ call: borrowing WatchedCall, result: Int64) {
    switch call.kind {
    case seam_open: opened(call, Int32(truncatingIfNeeded: result))
    case seam_mkdir, seam_mknod, seam_symlink: made(call)
    case seam_unlink:
      guard let directory = known(call.descriptor) else { return }
      add(.unlink(in: directory, name: call.name))
    case seam_rename:
      guard let from = known(call.descriptor), let into = known(call.otherDescriptor) else {
        return
      }
      add(
        .rename(
          from: from, call.name, to: into, call.otherName,
          isExchange: UInt32(bitPattern: call.flags) & RenameFlags.exchange.rawValue != 0))
    case seam_link:
      guard let directory = known(call.otherDescriptor),
        let node = number(call.otherDescriptor, call.otherName)
      else { return }
      add(.link(node, in: directory, name: call.otherName))
    case seam_set_attribute:
      guard let node = subject(call) else { return }
      add(.setAttribute(node, call.attribute, call.bytes))
    case seam_remove_attribute:
      guard let node = subject(call) else { return }
      add(.setAttribute(node, call.attribute, nil))
    case seam_write:
      guard let node = known(call.descriptor) else { return }
      add(.write(node, Int(call.offset), Array(call.bytes.prefix(Int(result)))))
    case seam_truncate:
      guard let node = known(call.descriptor) else { return }
      add(.resize(node, Int(call.offset)))
    case seam_allocate:
      guard let node = known(call.descriptor) else { return }
      // Only holes are punched.
      add(.write(node, Int(call.offset), [UInt8](repeating: 0, count: call.count)))
    case seam_sync_file:
      guard let node = known(call.descriptor) else { return }
      add(.sync(node))
    case seam_sync_data:
      guard let node = known(call.descriptor) else { return }
      add(.syncData(node))
    case seam_sync_filesystem: add(.syncAll)
    default: break
    }
  }

  private func add(_ change: DiskChange) {
    if let change = filter(change) { log.append(change) }
  }

  private func opened(_ call: borrowing WatchedCall, _ descriptor: Int32) {
    if call.flags & OpenFlags.temporaryFile.rawValue == OpenFlags.temporaryFile.rawValue {
      add(.make(enter(descriptor), .regular, target: [], in: nil, name: []))
    } else if call.flags & O_CREAT != 0, !existed {
      guard let directory = known(call.descriptor) else { return }
      add(.make(enter(descriptor), .regular, target: [], in: directory, name: call.name))
    } else if call.flags & O_TRUNC != 0, let node = known(descriptor) {
      add(.resize(node, 0))
    }
  }

  private func made(_ call: borrowing WatchedCall) {
    guard let directory = known(call.descriptor),
      let new = try? Sys.openat(call.descriptor, call.name, [.path, .noFollow]),
      let status = try? Sys.fstatx(new.rawValue, fields: .type)
    else { return }
    let target = call.kind == seam_symlink ? call.bytes : []
    add(.make(enter(new.rawValue), status.kind, target: target, in: directory, name: call.name))
  }

  // MARK: Numbers

  private func inode(_ descriptor: Int32) -> Inode? {
    guard let status = try? Sys.fstatx(descriptor, fields: .inode) else { return nil }
    return Inode(device: status.device, number: status.inode)
  }

  private func known(_ descriptor: Int32) -> Int? { inode(descriptor).flatMap { numbers[$0] } }

  private func number(_ directory: Int32, _ name: [UInt8]) -> Int? {
    guard let found = try? Sys.openat(directory, name, [.path, .noFollow]) else { return nil }
    return known(found.rawValue)
  }

  /// What a call is about that names a descriptor, itself or by its path in /proc.
  private func subject(_ call: borrowing WatchedCall) -> Int? {
    let path = call.name
    guard !path.isEmpty else { return known(call.descriptor) }
    let prefix = [UInt8]("/proc/self/fd/".utf8)
    guard path.starts(with: prefix),
      let descriptor = Int32(String(decoding: path.dropFirst(prefix.count), as: UTF8.self))
    else { return nil }
    return known(descriptor)
  }

  /// Gives a file that is new the next number.
  private func enter(_ descriptor: Int32) -> Int {
    guard let inode = inode(descriptor),
      let kept = try? Sys.duplicate(descriptor)
    else { preconditionFailure("an open file has a status") }
    held.append(SharedFD(kept))
    let number = numbers.count
    numbers[inode] = number
    return number
  }

  // MARK: The beginning

  private func read(_ folder: Int32) throws(Errno) {
    let number = enter(folder)
    start.nodes[number] = DiskImage.Node(kind: .directory, attributes: try attributes(folder))
    for (name, _, _) in try Sys.entries(of: folder) {
      let path = try Sys.openat(folder, name, [.path, .noFollow])
      if let known = known(path.rawValue) {
        start.nodes[number]?.entries[name] = known
        continue
      }
      let status = try Sys.fstatx(path.rawValue)
      start.nodes[number]?.entries[name] = numbers.count
      switch status.kind {
      case .directory:
        let directory = try Sys.openat(folder, name, [.readOnly, .directory])
        try read(directory.rawValue)
      case .regular:
        let file = try Sys.openat(folder, name, .readOnly)
        var content = [UInt8](repeating: 0, count: Int(status.size))
        let number = file.rawValue
        let failure = content.withUnsafeMutableBytes { buffer -> Errno? in
          do throws(Errno) {
            try Sys.pread(number, buffer, at: 0)
            return nil
          } catch {
            return error
          }
        }
        if let failure { throw failure }
        let attributes = try attributes(file.rawValue)
        start.nodes[enter(file.rawValue)] = DiskImage.Node(
          kind: .regular, attributes: attributes, content: content)
      case .symbolicLink:
        start.nodes[enter(path.rawValue)] = DiskImage.Node(
          kind: .symbolicLink, target: try Sys.readlinkat(folder, name))
      default: start.nodes[enter(path.rawValue)] = DiskImage.Node(kind: status.kind)
      }
    }
  }

  private func attributes(_ descriptor: Int32) throws(Errno) -> [[UInt8]: [UInt8]] {
    var found: [[UInt8]: [UInt8]] = [:]
    for name in try Sys.flistxattr(descriptor).split(separator: 0) where name.starts(with: user) {
      found[Array(name)] = try Sys.fgetxattr(descriptor, Array(name))
    }
    return found
  }

  private let user = [UInt8]("user.".utf8)
}
