import Glibc
import Primitives

/// The part of the processors' time that the scheduler gives this process, and with whom it shares it.
struct SchedulingGroup {
  /// Where procfs is.
  var processes = "/proc"
  /// Where cgroups are.
  var groups = "/sys/fs/cgroup"
  /// Whether the session is this process's own.
  var leadsSession = getsid(0) == getpid()

  /// The inode of the first cgroup namespace, in which paths begin at the real root (linux/proc_ns.h).
  private static let firstNamespace = "cgroup:[4026531835]"

  /// Whether only threads of this process are in it: a cgroup with the cpu controller, cgroups(7), or else what
  /// sched(7) calls autogroup, which a session has. False where it cannot be told.
  var isOurs: Bool {
    guard let groups = TextFile.read("\(processes)/self/cgroup") else { return false }
    var unified: Substring?
    for line in groups.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { return false }
      if parts[1].split(separator: ",").contains("cpu") {
        return parts[2] == "/" && seesRealRoot && hasAutogroup
      }
      if parts[0] == "0" { unified = parts[2] }
    }
    guard let unified else { return seesRealRoot && hasAutogroup }
    return isAlone(in: unified)
  }

  private func isAlone(in path: Substring) -> Bool {
    let names = path.split(separator: "/")
    for depth in (0...names.count).reversed() {
      let folder = ([groups[...]] + names.prefix(depth)).joined(separator: "/")
      guard let members = TextFile.read("\(folder)/cgroup.procs") else { return false }
      guard access("\(folder)/cpu.weight", F_OK) == 0 else { continue }
      // A group further up is shared with those beside us.
      return depth == names.count && members == "\(getpid())\n"
    }
    return seesRealRoot && hasAutogroup
  }

  private var seesRealRoot: Bool {
    let link = try? Sys.readlinkat(Sys.currentDirectory, Array("\(processes)/self/ns/cgroup".utf8))
    return link == Array(Self.firstNamespace.utf8)
  }

  private var hasAutogroup: Bool {
    TextFile.line("\(processes)/sys/kernel/sched_autogroup_enabled") == "1" && leadsSession
  }
}
