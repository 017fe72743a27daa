import Mount

/// The words of `-o`, as mount(8) and its relatives take them.
struct MountOptionList {
  private let words: [String]

  /// What libfuse and the kernel understand by themselves.
  private static let passedOn: Set<String> = [
    "async", "atime", "dirsync", "noatime", "nodiratime", "sync",
  ]

  /// Words for others who read the same line, /etc/fstab above all, or that say what holds anyway.
  private static let foreign: Set<String> = [
    "defaults", "auto", "noauto", "user", "nouser", "users", "nofail", "_netdev",
    "default_permissions", "relatime", "norelatime", "strictatime", "diratime",
  ]

  private static let own: Set<String> = [
    "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "allow_other", "allow_root",
    "nonempty",
    "passthrough=auto", "passthrough=off", "io_uring=auto", "io_uring=off", "threads=", "fsname=",
    "idle=", "writeback",
  ]

  /// - Parameter lists: The values of every `-o`: words separated by commas; `\,` is a comma.
  init(_ lists: [String]) { words = lists.flatMap(Self.split).filter { !$0.isEmpty } }

  /// Applies the words in order, so that the last of two opposites counts.
  func apply(to session: inout SessionOptions) throws(Failure) {
    for word in words { try Self.apply(word, to: &session) }
  }

  private static func apply(_ word: String, to session: inout SessionOptions) throws(Failure) {
    let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    switch (String(parts[0]), parts.count == 2 ? String(parts[1]) : nil) {
    case ("ro", nil): session.readOnly = true
    case ("rw", nil): session.readOnly = false
    case ("exec", nil): session.noExec = false
    case ("noexec", nil): session.noExec = true
    case ("suid", nil): session.honoursSetUID = true
    case ("nosuid", nil): session.honoursSetUID = false
    case ("dev", nil): session.honoursDevices = true
    case ("nodev", nil): session.honoursDevices = false
    case ("allow_other", nil): session.allowOther = true
    case ("allow_root", nil): session.allowRoot = true
    case ("nonempty", nil): session.nonEmpty = true
    case ("writeback", nil): session.writeback = true
    case ("passthrough", let value?): session.passthrough = try isOn(value, word)
    case ("io_uring", let value?): session.ioUring = try isOn(value, word) ? .auto : .off
    case ("threads", let value?):
      guard let count = Int(value), (1...256).contains(count) else {
        throw Failure(.usage, "-o \(word): the number of threads is 1 to 256")
      }
      session.workers = count
    case ("idle", let value?):
      guard let idle = DurationArgument(argument: value) else {
        throw Failure(.usage, "-o \(word): a duration is 90s, 10m or 1h30m, for example")
      }
      session.idleMilliseconds = idle.milliseconds
    case ("fsname", let value?): session.source = value
    case (let name, nil) where passedOn.contains(name): session.extra.append(name)
    case (let name, _) where foreign.contains(name) || name.hasPrefix("x-") || name == "comment":
      break
    default: throw Failure(.usage, unknown(word))
    }
  }

  private static func isOn(_ value: String, _ word: String) throws(Failure) -> Bool {
    switch value {
    case "auto", "on": true
    case "off": false
    default: throw Failure(.usage, "-o \(word): the value is auto or off")
    }
  }

  private static func unknown(_ word: String) -> String {
    let known = own.union(passedOn).union(foreign).sorted()
    let near = known.map { ($0, distance(word, $0)) }.min { $0.1 < $1.1 }
    guard let near, near.1 <= 2 else { return "unknown mount option '\(word)'" }
    return "unknown mount option '\(word)'; did you mean '\(near.0)'?"
  }

  private static func split(_ list: String) -> [String] {
    var words = [""]
    var escaped = false
    for character in list {
      if escaped {
        words[words.count - 1].append(character)
        escaped = false
      } else if character == "\\" {
        escaped = true
      } else if character == "," {
        words.append("")
      } else {
        words[words.count - 1].append(character)
      }
    }
    return words
  }

  /// Levenshtein's: how many letters have to be added, dropped or changed.
  private static func distance(_ left: String, _ right: String) -> Int {
    let right = Array(right)
    var row = Array(0...right.count)
    for (i, letter) in left.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, other) in right.enumerated() {
        let cost = letter == other ? diagonal : min(diagonal, row[j], row[j + 1]) + 1
        diagonal = row[j + 1]
        row[j + 1] = cost
      }
    }
    return row[right.count]
  }
}
