import CLinux
import Foundation
import Primitives
import Synchronization
import Testing

@Suite struct WorkCrewTests {
  private final class Tally: Sendable {
    let counts: Mutex<[Int]>

    init(_ parts: Int) { counts = Mutex([Int](repeating: 0, count: parts)) }

    func note(_ part: Int) { counts.withLock { $0[part] += 1 } }

    var isComplete: Bool { counts.withLock { $0.allSatisfy { $0 == 1 } } }
  }

  @Test(arguments: [0, 1, 3]) func everyPartIsDoneOnce(helpers: Int) {
    let crew = WorkCrew(limit: helpers)
    for parts in [0, 1, 2, 7, 1000] {
      let tally = Tally(parts)
      crew.run(parts: parts) { tally.note($0) }
      #expect(tally.isComplete)
    }
  }

  @Test func aThreadMayRunWhereItsPinnedStarterDoesNot() throws {
    // The first thread's own, as tests may be bound to some processors.
    let own = Self.processors("self")
    let first = try #require(own?.prefix { $0.isNumber })
    let processors = Mutex([own])
    let starter = try WorkerThread(name: "pinned") {
      #expect(scrim_pin_thread(Int32(first) ?? 0) == 0)
      let started = try? WorkerThread(name: "started") {
        processors.withLock { $0.append(Self.processors("thread-self")) }
      }
      started?.join()
    }
    starter.join()
    let seen = processors.withLock { $0 }
    #expect(seen.count == 2 && seen.first == seen.last && seen.first != nil)
  }

  private static func processors(_ thread: String) -> Substring? {
    let status = try? String(contentsOfFile: "/proc/\(thread)/status", encoding: .utf8)
    let line = status?.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }
    return line?.split(separator: "\t").last
  }

  @Test func severalTasksShareTheHelpers() throws {
    let crew = WorkCrew(limit: 2)
    let rounds = 50
    let tallies = (0..<4).map { _ in (0..<rounds).map { _ in Tally(20) } }
    let threads = try tallies.map { own in
      try WorkerThread(name: "tasks") {
        for tally in own { crew.run(parts: 20) { tally.note($0) } }
      }
    }
    for thread in threads { thread.join() }
    #expect(tallies.allSatisfy { $0.allSatisfy(\.isComplete) })
  }

  @Test(arguments: [0, 1, 3]) func whatIsBegunIsDoneOnceBesideOtherTasks(helpers: Int) throws {
    let crew = WorkCrew(limit: helpers)
    for parts in [0, 1, 2, 1000] {
      let (begun, other) = (Tally(parts), Tally(50))
      let task = crew.begin(parts: parts) { (part) throws(CryptoError) in begun.note(part) }
      crew.run(parts: 50) { other.note($0) }
      try task.finish()
      #expect(begun.isComplete && other.isComplete)
    }
  }

  @Test(arguments: [0, 2]) func aFailureIsThrownWhenTheTaskIsFinished(helpers: Int) {
    let task = WorkCrew(limit: helpers).begin(parts: 20) { (part) throws(CryptoError) in
      if part == 7 { throw .outOfMemory }
    }
    #expect(throws: CryptoError.outOfMemory) { try task.finish() }
  }
}
