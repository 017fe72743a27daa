import Container
import Glibc
import Migration
import Primitives
import SystemPackage

/// Has the daemon of a mount convert files, a few at a time.
///
/// The request and the question for its state are attributes of the directory that the file is in: whoever may
/// write there may replace what is in it.
final class LiveConversion {
  private struct Job {
    let id: UInt64
    let folder: SharedFD
    let name: [UInt8]
    let path: [UInt8]
    var told: UInt64 = 0
  }

  private enum Answer {
    case pending
    case ended
    case busy(String)
  }

  /// Asked for, but not ended: the daemon always has a next one.
  private static let depth = 8

  private let how: [UInt8]
  private let waits: Bool
  private let observer: MigrationObserver
  private var jobs: [Job] = []
  private var busy: [(job: Job, reason: String)] = []
  private var failure: TransferError?

  init(_ goal: ConversionGoal, waits: Bool, observer: MigrationObserver) {
    how = Array(((goal.policy?.name ?? "rules") + (goal.discards ? ",discard" : "")).utf8)
    self.waits = waits
    self.observer = observer
  }

  /// Converts a file, or what is in a directory.
  func take(_ place: LivePlace, recursive: Bool) {
    if let name = place.name { return add(place.folder, name, place.path) }
    LiveTree.walk(place.folder, place.path, recursive: recursive) { path, entry in
      switch entry {
      case .directory: break
      case .file(let folder, let name, let status):
        if status.kind == .regular || status.kind == .symbolicLink { add(folder, name, path) }
      case .unreadable(let error):
        observer.report(.problem(path: path, .failed("\(error)")))
      }
      return !isEnding
    }
  }

  /// Waits for what was asked for.
  func finish() -> MigrationEnd {
    drain(to: 0)
    while waits, !busy.isEmpty, !isEnding {
      // Nothing tells when a file is closed.
      usleep(300_000)
      if isEnding { break }
      let again = busy
      busy = []
      for (job, _) in again { add(job.folder, job.name, job.path) }
      drain(to: 0)
    }
    for (job, reason) in busy { observer.report(.problem(path: job.path, .busy(reason))) }
    if let failure { return .failed(failure) }
    return observer.wantsStop() ? .stopped : .complete
  }

  private var isEnding: Bool { failure != nil || observer.wantsStop() }

  private func add(_ folder: SharedFD, _ name: [UInt8], _ path: [UInt8]) {
    guard !isEnding else { return }
    let job = Job(
      id: UInt64.random(in: 1...UInt64.max), folder: folder, name: name, path: path)
    let blank = [UInt8(ascii: " ")]
    do throws(Errno) {
      try Sys.fsetxattr(
        folder.rawValue, MountAttribute.convert,
        Array(String(job.id).utf8) + blank + how + blank + name)
      jobs.append(job)
    } catch {
      observer.report(.problem(path: path, .failed(Output.errnoText(error.rawValue))))
    }
    drain(to: Self.depth - 1)
  }

  /// Asks for the oldest until no more than `count` are left.
  private func drain(to count: Int) {
    var pause: UInt32 = 200
    var isCancelled = false
    while jobs.count > count {
      if isEnding, !isCancelled {
        isCancelled = true
        for job in jobs { cancel(job) }
      }
      if ask(&jobs[0]) {
        jobs.removeFirst()
        pause = 200
      } else {
        usleep(pause)
        pause = min(pause * 2, 50_000)
      }
    }
  }

  private func cancel(_ job: Job) {
    // One that has ended meanwhile needs no word.
    try? Sys.fsetxattr(
      job.folder.rawValue, MountAttribute.convert, Array("\(job.id) cancel".utf8))
  }

  /// Whether the job has ended.
  private func ask(_ job: inout Job) -> Bool {
    let name = MountAttribute.convert + Array(".\(job.id)".utf8)
    let answer: [UInt8]
    do throws(Errno) {
      answer = try Sys.fgetxattr(job.folder.rawValue, name)
    } catch {
      failure = failure ?? .outside(error, "asking the mount's daemon")
      return true
    }
    let parts = String(decoding: answer, as: UTF8.self).split(separator: " ", maxSplits: 1)
    let rest = parts.count > 1 ? String(parts[1]) : ""
    switch parts.first {
    case "waiting": return false
    case "running":
      let bytes = UInt64(rest) ?? job.told
      if bytes > job.told {
        observer.report(.copying(path: job.path, bytes: bytes - job.told))
        job.told = bytes
      }
      return false
    case "converted": tell(job, .converted, rest)
    case "present": tell(job, .present, rest)
    case "busy": busy.append((job, rest))
    case "damaged": observer.report(.problem(path: job.path, .damaged(rest)))
    case "ended": failure = failure ?? .occupied(rest)
    case "stopped": break
    default: observer.report(.problem(path: job.path, .failed(rest)))
    }
    return true
  }

  private func tell(_ job: Job, _ outcome: MigrationEvent.Outcome, _ rest: String) {
    let parts = rest.split(separator: " ", maxSplits: 1)
    let bytes = parts.first.flatMap { UInt64($0) } ?? 0
    if outcome == .converted, bytes > job.told {
      observer.report(.copying(path: job.path, bytes: bytes - job.told))
    }
    observer.report(.finished(path: job.path, outcome, bytes: bytes))
    if parts.count > 1 { observer.report(.problem(path: job.path, .notKept(String(parts[1])))) }
  }
}
