import CFuse
import Glibc
import Mount
import Synchronization

/// Files of the test filesystem, all in the root directory.
///
/// - `memory` holds 3 MiB of a pattern, `written` what was written to it (up to 4 MiB);
/// - `slow` takes half a second to read; `silent` is never answered;
/// - a read of `meeting` waits for another one, for ten seconds at most, and finds nothing if none comes;
/// - every other name is a file of the backing folder, read and written with passthrough where possible.
final class Server: @unchecked Sendable {
  static let memory: UInt64 = 2
  static let written: UInt64 = 3
  static let slow: UInt64 = 4
  static let silent: UInt64 = 5
  static let meeting: UInt64 = 6
  static let special: [String: UInt64] = [
    "memory": memory, "written": written, "slow": slow, "silent": silent,
    "meeting": meeting,
  ]
  static let memorySize = 3 << 20
  static let writtenCapacity = 4 << 20

  struct Counters {
    var reads = 0
    var writes = 0
    var getattrs = 0
    var opens = 0
    var releases = 0
    var kills = 0
  }

  struct Table {
    var names: [String: UInt64] = Server.special
    var paths: [UInt64: String] = [:]
    var writtenSize = 0
    var met = 0
    var counters = Counters()
  }

  let backing: String
  let probe: Int32
  let table = Mutex(Table())
  private let content = UnsafeMutableRawBufferPointer.allocate(
    byteCount: Server.writtenCapacity, alignment: 4096)
  // Set once, before serving.
  nonisolated(unsafe) var session: Session?

  init(backing: String) {
    self.backing = backing
    probe = Glibc.open("\(backing)/.probe", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    content.initializeMemory(as: UInt8.self, repeating: 0)
  }

  static func of(_ request: fuse_req_t?) -> Server? {
    guard let pointer = fuse_req_userdata(request) else { return nil }
    return Unmanaged<Server>.fromOpaque(pointer).takeUnretainedValue()
  }

  var statistics: String {
    let counters = table.withLock { $0.counters }
    return "reads=\(counters.reads) writes=\(counters.writes) getattrs=\(counters.getattrs)"
      + " opens=\(counters.opens) releases=\(counters.releases) kills=\(counters.kills)"
      + " ids=\(session?.backing.count ?? -1)"
  }

  func count(_ change: (inout Counters) -> Void) { table.withLock { change(&$0.counters) } }

  /// The byte of `memory` at an offset.
  static func pattern(_ offset: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: offset &* 31 &+ offset >> 12)
  }

  /// The nodeid of a name, made up for a backing file at its first lookup.
  func node(_ name: String) -> UInt64? {
    table.withLock { table in
      if let known = table.names[name] { return known }
      let path = "\(backing)/\(name)"
      guard access(path, F_OK) == 0 else { return nil }
      let node = UInt64(100 + table.names.count)
      table.names[name] = node
      table.paths[node] = path
      return node
    }
  }

  func path(_ node: UInt64) -> String? { table.withLock { $0.paths[node] } }

  func attributes(_ node: UInt64) -> stat? {
    var status = stat()
    if let path = path(node) {
      guard stat(path, &status) == 0 else { return nil }
      status.st_ino = UInt(node)
      return status
    }
    status.st_ino = UInt(node)
    status.st_nlink = 1
    status.st_mode = node == 1 ? S_IFDIR | 0o777 : S_IFREG | 0o666
    switch node {
    case 1: break
    case Self.memory: status.st_size = Self.memorySize
    case Self.written: status.st_size = table.withLock { $0.writtenSize }
    case Self.slow, Self.silent, Self.meeting: status.st_size = 4096
    default: return nil
    }
    return status
  }

  /// Bytes of an in-memory file, into the leased buffer: how many.
  func read(_ node: UInt64, offset: Int, count: Int, into base: UnsafeMutableRawPointer) -> Int {
    let size = Int(attributes(node)?.st_size ?? 0)
    let available = max(min(count, size - offset), 0)
    let bytes = UnsafeMutableRawBufferPointer(start: base, count: available)
    switch node {
    case Self.memory:
      for index in 0..<available { bytes[index] = Self.pattern(offset + index) }
    case Self.written:
      bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: content[offset..<offset + available]))
    case Self.meeting:
      table.withLock { $0.met += 1 }
      for _ in 0..<1000 {
        if table.withLock({ $0.met > 1 }) { return available }
        usleep(10_000)
      }
      return 0
    default:
      usleep(500_000)
      for index in 0..<available { bytes[index] = 7 }
    }
    return available
  }

  func write(offset: Int, bytes: UnsafeRawBufferPointer) -> Bool {
    guard offset + bytes.count <= Self.writtenCapacity else { return false }
    UnsafeMutableRawBufferPointer(rebasing: content[offset..<offset + bytes.count])
      .copyMemory(from: bytes)
    table.withLock { $0.writtenSize = max($0.writtenSize, offset + bytes.count) }
    return true
  }

  /// Answers every line of standard input with the statistics, on a thread of its own.
  func reportOnRequest() {
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        let server = Unmanaged<Server>.fromOpaque(argument).takeUnretainedValue()
        while readLine() != nil { say("stats \(server.statistics)") }
        return nil
      }, Unmanaged.passUnretained(self).toOpaque())
  }
}

/// Writes a line at once, through no buffer another thread could hold.
func say(_ line: String) {
  let bytes = Array("\(line)\n".utf8)
  _ = bytes.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
}
