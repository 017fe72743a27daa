// What ThreadSanitizer has to see, and what not: `locked` has threads wait for a mutex, `racy` has them pass one by.
import Glibc
import Synchronization

final class Counter: @unchecked Sendable {
  let mutex = Mutex(())
  let isLocked: Bool
  var value = 0

  init(isLocked: Bool) { self.isLocked = isLocked }

  func count() {
    for _ in 0..<5000 {
      if isLocked {
        mutex.withLock { _ in value += 1 }
      } else {
        mutex.withLock { _ in }
        value += 1
      }
    }
  }
}

func startCounting(_ counter: Counter) -> pthread_t {
  var thread = pthread_t()
  pthread_create(
    &thread, nil,
    { argument in
      if let argument { Unmanaged<Counter>.fromOpaque(argument).takeUnretainedValue().count() }
      return nil
    }, Unmanaged.passUnretained(counter).toOpaque())
  return thread
}

@main struct Proof {
  static func main() {
    let counter = Counter(isLocked: CommandLine.arguments.dropFirst().first == "locked")
    for thread in (0..<8).map({ _ in startCounting(counter) }) { pthread_join(thread, nil) }
  }
}
