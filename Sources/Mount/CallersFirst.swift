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
final class CallersFirst: Sendable {
  /// Milliseconds between two looks; a cgroup may get its controllers, or other members, at any time.
  private static let pause = 5000

  private let isEnding = Monitor(false)
  private let thread: WorkerThread

  /// Starts the thread that looks; nil where there is none, and everything stays as it is.
  init?(_ fileSystem: FileSystem) {
    let isEnding = isEnding
    do {
      thread = try WorkerThread(name: "scrim-policy") { Self.look(fileSystem, isEnding) }
    } catch {
      return nil
    }
  }

  /// Ends the thread. Call exactly once.
  func end() {
    isEnding.update { $0 = true }
    thread.join()
  }

  private static func look(_ fileSystem: FileSystem, _ isEnding: Monitor<Bool>) {
    func note(_ areFirst: Bool) { fileSystem.facts.withLock { $0.callersFirst = areFirst } }
    // Without CAP_SYS_NICE or a limit that allows it there would be no way back.
    guard scrim_try_idle_policy() == 0 else { return note(false) }
    var areFirst = false
    repeat {
      let isOurs = SchedulingGroup().isOurs
      if isOurs != areFirst {
        let result = scrim_set_idle_policy(isOurs ? 1 : 0)
        guard result == 0 else {
          _ = scrim_set_idle_policy(0)
          fileSystem.log.warning(
            "the scheduling policy cannot be changed: \(Errno(rawValue: -result))")
          return note(false)
        }
        areFirst = isOurs
      }
      note(areFirst)
    } while isEnding.wait(milliseconds: pause, { $0 ? true : nil }) == nil
  }
}
