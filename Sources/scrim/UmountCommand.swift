import ArgumentParser
import FoundationEssentials
import Glibc
import Mount

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
    let isStale = status == nil && MountPoint.isDead(mountpoint.terminated)
    try MountRemoval.detach(entry, lazily: lazy || isStale)
    guard !lazy, let daemon else { return }
    let obstacle = Patience.during("writing what is not on the disk yet") {
      daemon.waitForEnd { MountTable.otherPlace(of: entry.device) }
    }
    if let obstacle {
      throw Failure(
        .busy,
        "\(mountpoint.text) is unmounted here, but \(obstacle); the daemon (\(daemon.id)) goes on until that ends"
      )
    }
  }
}
