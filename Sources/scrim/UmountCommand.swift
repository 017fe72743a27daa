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
      throw Failure(.notMounted, try Self.nothingMounted(on: mountpoint))
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
    let isStale = status == nil && MountRemoval.isDead(mountpoint)
    try MountRemoval.detach(entry, lazily: lazy || isStale)
    guard !lazy, let daemon else { return }
    Patience.during("writing what is not on the disk yet") { daemon.waitForEnd() }
  }

  /// Names the mount that may have been meant: of the vault given instead, the one the path is in, or a similar name.
  static func nothingMounted(on path: PathArgument) throws(Failure) -> String {
    let full = path.absolute
    let mounts = try MountTable.read().filter(\.isScrim)
    let meant =
      mounts.first { $0.source == full || full.starts(with: $0.point + [UInt8(ascii: "/")]) }?.point
    let near =
      meant.map { String(decoding: $0, as: UTF8.self) }
      ?? Guess.word(
        near: String(decoding: full, as: UTF8.self),
        among: mounts.map { String(decoding: $0.point, as: UTF8.self) })
    let hint =
      near.map { "; did you mean \(StatusText.safe($0))?" }
      ?? (mounts.isEmpty ? "" : "; 'scrim mounts' lists what is")
    return "no vault is mounted on \(path.text)\(hint)"
  }
}
