import Glibc
import Primitives

/// The part of the processors' time that the scheduler gives this process, and with whom it shares it.
struct SchedulingGroup {
  /// Where procfs is.
  var processes = "/proc"
  /// Where sysfs is, with the cgroups in it.
  var kernel = "/sys"
  /// Whether the session is this process's own.
  var leadsSession = getsid(0) == getpid()

  /// The inode of the first cgroup namespace, in which paths begin at the real root (linux/proc_ns.h).
  private static let firstNamespace = "cgroup:[4026531835]"

  /// Whether only threads of this process are in it, as far as can be told: a cgroup with the cpu controller,
  /// cgroups(7), or else what sched(7) calls autogroup, which a session has.
  var isOurs: Bool {
    // In a container anybody may be beside us; procfs of another PID namespace tells of others; and schedulers that
    // are loaded, sched_ext, have rules of their own.
    guard isFirstNamespace, isOwnProcfs,
      TextFile.line("\(kernel)/kernel/sched_ext/state") != "enabled",
      let lines = TextFile.read("\(processes)/self/cgroup")
    else { return false }
    var unified: Substring?
    for line in lines.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { return false }
      if parts[1].split(separator: ",").contains("cpu") { return parts[2] == "/" && hasAutogroup }
      if parts[0] == "0" { unified = parts[2] }
    }
    return unified.map(isAlone) ?? hasAutogroup
  }

  private func isAlone(in path: Substring) -> Bool {
    let names = path.split(separator: "/")
    for depth in (0...names.count).reversed() {
      let folder = (["\(kernel)/fs/cgroup"] + names.prefix(depth)).joined(separator: "/")
      guard let members = TextFile.read("\(folder)/cgroup.procs") else { return false }
      guard access("\(folder)/cpu.weight", F_OK) == 0 else { continue }
      // A group further up is shared with those beside us, and ours with those further down.
      let state = TextFile.read("\(folder)/cgroup.stat")?.split(separator: "\n") ?? []
      return depth == names.count && members == "\(getpid())\n"
        && state.contains("nr_descendants 0")
    }
    return hasAutogroup
  }

  private var isOwnProcfs: Bool { link("\(processes)/self") == "\(getpid())" }

  private var isFirstNamespace: Bool { link("\(processes)/self/ns/cgroup") == Self.firstNamespace }

  private var hasAutogroup: Bool {
    TextFile.line("\(processes)/sys/kernel/sched_autogroup_enabled") == "1" && leadsSession
  }

  private func link(_ path: String) -> String? {
    (try? Sys.readlinkat(Sys.currentDirectory, Array(path.utf8))).map {
      String(decoding: $0, as: UTF8.self)
    }
  }
}
