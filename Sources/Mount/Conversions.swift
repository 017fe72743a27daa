import Container
import Glibc
import Logging
import Migration
import Primitives
import Synchronization
import SystemPackage
import Vault

/// Files of a mount that are to be stored in another mode. One thread converts them in the order in which they
/// were asked for; who asked can ask how far it is.
final class Conversions: Sendable {
  struct Job: Sendable {
    let id: UInt64
    let directory: Inode
    let name: [UInt8]
    let goal: ConversionGoal
    let caller: UInt32
  }

  private struct Contents {
    var waiting: [Job] = []
    var states: [UInt64: String] = [:]
    /// Jobs that have ended, the oldest first; forgotten when there are too many.
    var ended: [UInt64] = []
    var isStopping = false
  }

  /// Jobs that may wait; more are refused.
  private static let maximumWaiting = 1024
  private static let maximumEnded = 4096

  private let contents = Monitor(Contents())
  /// Jobs nobody wants any more.
  private let cancelled = Mutex<Set<UInt64>>([])
  /// Held while a new version is put into place; see ``FileSystem/beginChange(_:)``.
  let swapping = Mutex(())

  func add(_ job: Job) throws {
    let isTaken = contents.update { contents in
      guard contents.waiting.count < Self.maximumWaiting, contents.states[job.id] == nil else {
        return false
      }
      contents.waiting.append(job)
      contents.states[job.id] = "waiting"
      return true
    }
    guard isTaken else { throw Errno.resourceTemporarilyUnavailable }
  }

  func cancel(_ id: UInt64) {
    let isKnown = contents.read { $0.states[id] != nil }
    if isKnown { cancelled.withLock { _ = $0.insert(id) } }
  }

  func isCancelled(_ id: UInt64) -> Bool {
    cancelled.withLock { $0.contains(id) } || contents.read { $0.isStopping }
  }

  /// How far a job is; nil for one that is not known.
  func state(_ id: UInt64) -> String? { contents.read { $0.states[id] } }

  func note(_ id: UInt64, bytes: UInt64) {
    contents.update { $0.states[id] = "running \(bytes)" }
  }

  func end(_ id: UInt64, _ text: String) {
    contents.update { contents in
      contents.states[id] = text
      contents.ended.append(id)
      if contents.ended.count > Self.maximumEnded {
        contents.states[contents.ended.removeFirst()] = nil
      }
    }
    cancelled.withLock { _ = $0.remove(id) }
  }

  enum Next {
    case job(Job)
    /// None has come for a while.
    case pause
    case end
  }

  /// Waits for a job; with `hasPause` only for a while.
  func take(hasPause: Bool) -> Next {
    func look(_ contents: inout Contents) -> Next? {
      if contents.isStopping { return .end }
      return contents.waiting.first.map { .job($0) }
    }
    let next = hasPause ? contents.wait(milliseconds: 500, look) ?? .pause : contents.wait(look)
    // Only this thread takes jobs away.
    if case .job = next { contents.update { _ = $0.waiting.removeFirst() } }
    return next
  }

  /// Ends the thread soon, in the middle of a file if need be.
  func stop() { contents.update { $0.isStopping = true } }
}

extension FileSystem {
  /// A request as `scrim convert` makes it, in an attribute of the file's directory: a number of the caller's
  /// choice, a blank, then `cancel`, or a policy or `rules`, perhaps `,discard`, a blank, and the name.
  func requestConversion(_ directory: Inode, _ value: [UInt8], _ caller: Caller) throws {
    let blank = UInt8(ascii: " ")
    let parts = value.split(separator: blank, maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count >= 2, let id = UInt64(String(decoding: parts[0], as: UTF8.self)) else {
      throw MountFailure.invalid
    }
    let words = String(decoding: parts[1], as: UTF8.self).split(separator: ",")
    if words == ["cancel"] { return conversions.cancel(id) }
    guard let how = words.first, words.dropFirst().allSatisfy({ $0 == "discard" }),
      parts.count == 3
    else { throw MountFailure.invalid }
    let policy = ContentPolicy(name: String(how))
    guard policy != nil || how == "rules" else { throw MountFailure.invalid }
    let goal = ConversionGoal(policy: policy, discards: words.count > 1)
    try conversions.add(
      Conversions.Job(
        id: id, directory: directory, name: Array(parts[2]), goal: goal, caller: caller.uid))
  }

  /// The body of the converting thread.
  func convert(_ session: Session) {
    let converter = FileConverter()
    // Where the record may allow more than is needed: looked at once all that was asked for is done there.
    var entered: Inode?
    while true {
      switch conversions.take(hasPause: entered != nil) {
      case .end: return
      case .pause:
        entered.map(refresh)
        entered = nil
      case .job(let job):
        if job.directory !== entered {
          entered.map(refresh)
          entered = job.directory
          try? directory(job.directory).removeLeftovers()
        }
        conversions.end(job.id, run(job, converter, session))
      }
    }
  }

  /// Takes back what a directory's record allows but no file in it needs any more.
  private func refresh(_ inode: Inode) {
    do { try directory(inode).refreshPresence() } catch {
      log.warning("\(path(inode)): its record could not be renewed: \(ErrnoMap.reason(error))")
    }
  }

  private func run(_ job: Conversions.Job, _ converter: FileConverter, _ session: Session) -> String
  {
    do {
      let result = try convert(job, converter)
      if result.outcome == .converted {
        // What the kernel has cached under the name is the old inode. None of these locks are held here.
        try? session.invalidateEntry(parent: job.directory.nodeid, name: job.name)
      }
      let note = result.note.map { " \($0)" } ?? ""
      return "\(result.outcome.rawValue) \(result.bytes)\(note)"
    } catch let error as TransferError {
      return Self.describe(error)
    } catch {
      report(error, job.directory, name: job.name)
      return (ErrnoMap.isIntegrityFailure(error) ? "damaged " : "failed ") + ErrnoMap.reason(error)
    }
  }

  private static func describe(_ error: TransferError) -> String {
    switch error {
    case .busy(let text): "busy \(text)"
    case .changed: "busy it was changed meanwhile"
    case .stopped: "stopped"
    default:
      (error.endsEverything ? "ended " : error.isDamage ? "damaged " : "failed ") + error.text
    }
  }

  private func convert(
    _ job: Conversions.Job, _ converter: FileConverter
  ) throws -> FileConverter.Result {
    guard !conversions.isCancelled(job.id) else { throw TransferError.stopped }
    let directory = try directory(job.directory)
    guard let found = try directory.lookup(job.name) else { throw MountFailure.notFound }
    guard job.caller == 0 || job.caller == found.status.uid || job.caller == geteuid() else {
      throw Errno.notPermitted
    }
    let link = Inode.Link(parent: job.directory, name: job.name)
    let inode = table.remember(BackingIdentity(found.status), mode: found.mode, link: link)
    defer { table.forget(inode.nodeid, count: 1) }
    guard found.mode == .plain || found.mode == .container else {
      let fence = ConversionFence(
        advance: { (_) throws(TransferError) in },
        swap: { (body) throws(TransferError) in try body() }, isRead: { false })
      return try converter.convert(found, in: directory, to: job.goal, fence: fence)
    }
    try beginCopy(inode)
    defer { endCopy(inode) }
    let file = try acquire(inode, writable: false)
    defer { release(inode, file) }
    // Its stored state, times included, is then what the mount shows.
    try commit(inode, file)
    guard let entry = try directory.lookup(job.name), isSame(entry, inode) else {
      throw TransferError.changed
    }
    if try status(inode).size == 0, users(of: inode) > 1 {
      // Two processes that lock two versions of it would not see each other.
      throw TransferError.busy("it is empty and open, perhaps as a lock")
    }
    var bytes: UInt64 = 0
    let fence = ConversionFence(
      advance: { (count) throws(TransferError) in
        if self.conversions.isCancelled(job.id) { throw .stopped }
        try self.requireUndisturbed(inode)
        bytes += count
        if count > 0 { self.conversions.note(job.id, bytes: bytes) }
      },
      swap: { (body) throws(TransferError) in try self.swap(inode, link, body) },
      isRead: { self.users(of: inode) > 1 })
    return try converter.convert(entry, in: directory, to: job.goal, fence: fence)
  }
}
