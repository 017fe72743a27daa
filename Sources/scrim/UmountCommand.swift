import ArgumentParser
import FoundationEssentials
import Glibc

struct UmountCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "umount",
    abstract: "Unmount, and wait until everything is on disk.",
    discussion: """
      Also clears a mount point whose daemon was killed. A mount in use is left alone unless \
      --lazy is given, which hides it at once and unmounts when its last file is closed.
      """,
    aliases: ["unmount"])

  @Argument(help: "Where the vault is mounted.")
  var mountpoint: PathArgument

  @Flag(help: "Detach a mount that is in use; it ends when its last file is closed.")
  var lazy = false

  func run() throws {
    let point = mountpoint.absolute
    guard let entry = try MountTable.scrimMount(at: point) else {
      throw try NotMounted.on(mountpoint)
    }
    let status = try? MountAttribute.readStatus(of: mountpoint)
    let report = status.flatMap {
      try? JSONDecoder().decode(MountPointReport.self, from: Data($0))
    }
    // Waited for only where it is a process of whose mount it is: anybody's daemon may claim anything.
    let daemon = report.flatMap { RunningProcess(id: $0.pid) }.flatMap {
      $0.user == entry.owner || entry.owner == 0 ? $0 : nil
    }

    // Where nobody answers there is nothing left to write, and open files of the dead mount would
    // only keep it in the way.
    let isStale = status == nil && isDisconnected()
    try detach(entry, lazily: lazy || isStale)
    guard !lazy, let daemon else { return }
    Patience.during("writing what is not on the disk yet") { daemon.waitForEnd() }
  }

  private func isDisconnected() -> Bool {
    // Always asks the daemon, while `stat` may be answered from the kernel's cache.
    var status = statvfs()
    guard statvfs(mountpoint.terminated, &status) != 0 else { return false }
    return errno == ENOTCONN || errno == ECONNABORTED
  }

  private func detach(_ entry: MountEntry, lazily: Bool) throws(Failure) {
    let path = PathArgument(bytes: entry.point)
    // A daemon that has only just ended its last request may hold the mount for a moment.
    for attempt in 0..<20 {
      if umount2(path.terminated, lazily ? Int32(MNT_DETACH) : 0) == 0 { return }
      var code = errno
      if code == EPERM {
        guard let refusal = Fusermount.unmount(entry, lazily: lazily) else { return }
        guard refusal.isBusy else {
          throw Failure(.system, "\(path.text) cannot be unmounted: \(refusal.reason)")
        }
        code = EBUSY
      }
      guard code == EBUSY else {
        throw Failure(.system, "\(path.text) cannot be unmounted: \(Output.errnoText(code))")
      }
      if attempt < 19 { usleep(10_000) }
    }
    let users = MountUsers.find(of: entry.point)
    let whom = users.isEmpty ? "" : " by \(users.joined(separator: ", "))"
    throw Failure(
      .busy, "\(path.text) is in use\(whom); close what is open there, or use --lazy")
  }
}
