import Glibc

/// A process of this machine, told from a later one with the same ID by its start time.
struct RunningProcess {
  let id: pid_t
  private let started: String

  /// Nil where it does not run (any more).
  init?(id: pid_t) {
    guard let started = Self.startTime(of: id) else { return nil }
    self.id = id
    self.started = started
  }

  /// Whose it is; nil once it has ended.
  var user: uid_t? {
    guard let text = FileText.read("/proc/\(id)/status") else { return nil }
    for line in String(decoding: text, as: UTF8.self).split(separator: "\n")
    where line.hasPrefix("Uid:") {
      return line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { uid_t($0) }
    }
    return nil
  }

  /// Waits until it has ended, however long that takes: a daemon syncs before it ends.
  ///
  /// - Parameter obstacle: Asked every second what it waits for that may never come.
  /// - Returns: The obstacle, if there is one; then it has not ended.
  func waitForEnd(unless obstacle: () -> String? = { nil }) -> String? {
    var waits = 0
    while Self.startTime(of: id) == started {
      usleep(5_000)
      waits += 1
      if waits % 200 == 0, let obstacle = obstacle() { return obstacle }
    }
    return nil
  }

  /// A process as people know it: `name (id)`.
  static func name(of id: pid_t) -> String {
    let name = FileText.read("/proc/\(id)/comm") ?? Array("?".utf8)
    return "\(String(decoding: name.filter { $0 >= 32 }, as: UTF8.self)) (\(id))"
  }

  /// The start time in /proc/ID/stat (proc(5)); nil for one that has ended, a zombie included.
  private static func startTime(of id: pid_t) -> String? {
    guard let text = FileText.read("/proc/\(id)/stat"),
      // The command's name stands in brackets and may hold anything.
      let end = text.lastIndex(of: UInt8(ascii: ")"))
    else { return nil }
    let fields = text[(end + 1)...].split(separator: UInt8(ascii: " "))
    guard fields.count > 19, fields[0] != ArraySlice("Z".utf8), fields[0] != ArraySlice("X".utf8)
    else { return nil }
    return String(decoding: fields[19], as: UTF8.self)
  }
}

/// Who keeps a mount busy.
enum MountUsers {
  private static let most = 5

  /// Some of the processes with a working directory or an open file under a path, as `name (id)`.
  static func find(of point: [UInt8]) -> [String] {
    var users: [String] = []
    for id in Folder.names("/proc").compactMap({ pid_t($0) }).sorted() where users.count < most {
      guard uses(id, point) else { continue }
      users.append(RunningProcess.name(of: id))
    }
    return users
  }

  private static func uses(_ id: pid_t, _ point: [UInt8]) -> Bool {
    let descriptors = Folder.names("/proc/\(id)/fd").map { "/proc/\(id)/fd/\($0)" }
    return (["/proc/\(id)/cwd", "/proc/\(id)/root"] + descriptors).contains { link in
      guard let target = Folder.linkTarget(link) else { return false }
      return target == point || target.starts(with: point + [UInt8(ascii: "/")])
    }
  }
}

/// Reading directories and links of /proc.
enum Folder {
  static func names(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names
  }

  static func linkTarget(_ path: String) -> [UInt8]? {
    var target = [UInt8](repeating: 0, count: 4096)
    let length = target.withUnsafeMutableBytes { buffer in
      buffer.bindMemory(to: CChar.self).baseAddress.map { readlink(path, $0, buffer.count) } ?? -1
    }
    return length >= 0 ? Array(target[..<length]) : nil
  }
}
