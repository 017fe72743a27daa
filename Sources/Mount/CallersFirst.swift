import CLinux
import Logging
import Primitives
import Synchronization
import SystemPackage

/// Has this process's threads run under SCHED_IDLE, sched(7), as long as that takes nothing from them, since they share
/// their part of the processors with nobody.
///
/// The scheduler takes a processor on which only such threads run for an idle one (sched_idle_cpu() in the kernel's
/// kernel/sched/fair.c). So whoever gets a reply wakes up where he fell asleep, beside the ring that serves him, and not
/// on another processor, which would have to be woken itself, and for the next reply the first one again.
///
/// The thread that looks keeps its policy, and would notice in time if others starved.
enum CallersFirst {
  /// Milliseconds between two looks; a cgroup may get its controllers, or other members, at any time.
  private static let interval = 5000

  /// Starts the thread that looks; nil where there is none, and everything stays as it is.
  static func start(_ fileSystem: FileSystem) -> Lookout? {
    try? Lookout("scrim-policy") { look(fileSystem, $0) }
  }

  private static func look(_ fileSystem: FileSystem, _ pause: Lookout.Pause) {
    func note(_ areFirst: Bool) { fileSystem.facts.withLock { $0.callersFirst = areFirst } }
    var isOurs: Bool { SchedulingGroup().isOurs }
    note(false)
    // Without CAP_SYS_NICE or a limit that allows it there would be no way back. Whoever started the daemon may be
    // beside it at first.
    guard scrim_try_idle_policy() == 0, isOurs || pause(milliseconds: interval) && isOurs else {
      return
    }
    let result = scrim_set_idle_policy(1)
    if result == 0 {
      note(true)
      while pause(milliseconds: interval), isOurs {}
    } else {
      fileSystem.log.warning(
        "the scheduling policy cannot be changed: \(Errno(rawValue: -result))")
    }
    // For good: what is ours again may not be for those who were here before.
    while scrim_set_idle_policy(0) != 0, pause(milliseconds: interval) {}
    note(false)
  }
}
