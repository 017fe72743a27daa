import ArgumentParser
import FoundationEssentials
import Glibc
import Primitives

struct LockCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lock",
    abstract: "Unmount at once, whether or not files are open; the keys are gone with the daemon.",
    discussion: """
      What was written is brought to the disk first. Programs that have files open there get errors \
      from then on. --all takes every mount of this user, or of everybody for root.
      """)

  @Argument(help: "Where vaults are mounted.")
  var mountpoints: [PathArgument] = []

  @Flag(help: "Every mount, and success where there is none.")
  var all = false

  func validate() throws {
    guard all == mountpoints.isEmpty else {
      throw ValidationError("give either mount points or --all")
    }
  }

  func run() throws {
    var failure: Failure?
    for entry in try entries() {
      do throws(Failure) {
        try MountLock(entry).close()
      } catch {
        // One that resists must not keep the others open.
        if let failure { Output.complain(failure.message) }
        failure = error
      }
    }
    if let failure { throw failure }
  }

  private func entries() throws(Failure) -> [MountEntry] {
    if all {
      return try MountTable.read().filter { entry in
        entry.isScrim && (geteuid() == 0 || entry.owner == geteuid())
      }.reversed()
    }
    var entries: [MountEntry] = []
    for mountpoint in mountpoints {
      guard let entry = try MountTable.scrimMount(at: mountpoint.absolute) else {
        throw try NotMounted.on(mountpoint)
      }
      entries.append(entry)
    }
    return entries
  }
}

/// Ends one mount without asking who uses it.
private struct MountLock {
  private let entry: MountEntry
  private let point: PathArgument

  init(_ entry: MountEntry) {
    self.entry = entry
    point = PathArgument(bytes: entry.point)
  }

  func close() throws(Failure) {
    if let daemon = daemon() {
      flush()
      // It unmounts by itself, in use or not, and takes the keys with it.
      if kill(daemon.id, SIGTERM) == 0 {
        Patience.during("writing what is not on the disk yet") { _ = daemon.waitForEnd() }
      }
    }
    guard try MountTable.scrimMount(at: entry.point)?.device == entry.device else { return }
    if umount2(point.terminated, Int32(MNT_DETACH)) == 0 { return }
    let code = errno
    let refusal = code == EPERM ? Fusermount.unmount(entry, lazily: true) : nil
    if code == EPERM && refusal == nil { return }
    let reason = refusal?.reason ?? Output.errnoText(code)
    throw Failure(.system, "\(point.text) cannot be unmounted: \(reason)")
  }

  /// Brings to the daemon what the kernel still holds back of files that are open.
  private func flush() {
    let directory = open(point.terminated, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard directory >= 0 else { return }
    defer { Glibc.close(directory) }
    try? Sys.syncfs(directory)
  }

  /// The process that serves the mount. What a mount says of itself is believed only for processes of whoever
  /// mounted it, so that nobody can make root end somebody else's.
  private func daemon() -> RunningProcess? {
    guard let status = try? MountAttribute.readStatus(of: point),
      let report = try? JSONDecoder().decode(MountPointReport.self, from: Data(status)),
      let process = RunningProcess(id: report.pid), let owner = entry.owner,
      process.user == owner
    else { return nil }
    return process
  }
}
