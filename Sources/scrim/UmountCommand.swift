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
    guard try MountTable.scrimMount(at: point) != nil else {
      throw Failure(.notMounted, "no vault is mounted on \(mountpoint.text)")
    }
    let status = try? MountAttribute.readStatus(of: mountpoint)
    let report = status.flatMap {
      try? JSONDecoder().decode(MountPointReport.self, from: Data($0))
    }
    let daemon = report.flatMap { RunningProcess(id: $0.pid) }

    // Where nobody answers there is nothing left to write, and open files of the dead mount would
    // only keep it in the way.
    let isStale = status == nil && isDisconnected()
    try detach(point, lazily: lazy || isStale)
    if !lazy { daemon?.waitForEnd() }
  }

  private func isDisconnected() -> Bool {
    // Always asks the daemon, while `stat` may be answered from the kernel's cache.
    var status = statvfs()
    guard statvfs(mountpoint.terminated, &status) != 0 else { return false }
    return errno == ENOTCONN || errno == ECONNABORTED
  }

  private func detach(_ point: [UInt8], lazily: Bool) throws(Failure) {
    let path = PathArgument(bytes: point)
    // A daemon that has only just ended its last request may hold the mount for a moment.
    for attempt in 0..<20 {
      if umount2(path.terminated, lazily ? Int32(MNT_DETACH) : 0) == 0 { return }
      let code = errno
      if code == EPERM {
        guard Fusermount.unmount(path, lazily: lazily) else { continue }
        return
      }
      guard code == EBUSY else {
        throw Failure(.system, "\(path.text) cannot be unmounted: \(Output.errnoText(code))")
      }
      if attempt < 19 { usleep(10_000) }
    }
    let users = MountUsers.find(of: point)
    let whom = users.isEmpty ? "" : " by \(users.joined(separator: ", "))"
    throw Failure(
      .busy, "\(path.text) is in use\(whom); close what is open there, or use --lazy")
  }
}

/// fusermount3, which may unmount what an ordinary user mounted.
enum Fusermount {
  /// Whether it succeeded; its own message has gone to standard error otherwise.
  static func unmount(_ point: PathArgument, lazily: Bool) -> Bool {
    let options = ["fusermount3", lazily ? "-uqz" : "-uq", "--"].map { $0.utf8CString.map { $0 } }
    var arguments: [UnsafeMutablePointer<CChar>?] = (options + [point.terminated]).map {
      strdup($0)
    }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var process: pid_t = 0
    guard posix_spawnp(&process, "fusermount3", nil, nil, arguments, environ) == 0 else {
      return false
    }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 && errno == EINTR {}
    return status == 0
  }
}
