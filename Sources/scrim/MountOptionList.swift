import Glibc
import Mount

/// What the words of `-o` set.
struct MountSettings {
  var session: SessionOptions
  /// The directory of the vault to mount, from its root; nil is all of it.
  var subdirectory: PathArgument?
  /// Whether a mount of root's stays root's.
  var keepsRoot = false
}

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
    "relatime", "norelatime", "strictatime", "diratime",
  ]

  private static let own: Set<String> = [
    "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "allow_other", "allow_root",
    "nonempty",
    "default_permissions",
    "passthrough=auto", "passthrough=off", "io_uring=auto", "io_uring=off", "threads=", "fsname=",
    "idle=", "subdir=", "uid=", "gid=", "keep_root", "writeback",
  ]

  /// - Parameter lists: The values of every `-o`: words separated by commas; `\,` is a comma.
  init(_ lists: [String]) { words = lists.flatMap(Self.split).filter { !$0.isEmpty } }

  /// Applies the words in order, so that the last of two opposites counts.
  func apply(to settings: inout MountSettings) throws(Failure) {
    for word in words {
      let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      switch (String(parts[0]), parts.count == 2 ? String(parts[1]) : nil) {
      case ("subdir", let path?): settings.subdirectory = PathArgument(argument: path)
      case ("keep_root", nil): settings.keepsRoot = true
      case ("uid", let user?): settings.session.owners.uid = try Self.user(user, word)
      case ("gid", let group?): settings.session.owners.gid = try Self.group(group, word)
      default: try Self.apply(word, parts, to: &settings.session)
      }
    }
  }

  private static func user(_ name: String, _ word: String) throws(Failure) -> UInt32 {
    guard let id = UInt32(name) ?? getpwnam(name)?.pointee.pw_uid, id != UInt32.max else {
      throw Failure(.usage, "-o \(word): there is no such user; a number does, too")
    }
    return id
  }

  private static func group(_ name: String, _ word: String) throws(Failure) -> UInt32 {
    guard let id = UInt32(name) ?? getgrnam(name)?.pointee.gr_gid, id != UInt32.max else {
      throw Failure(.usage, "-o \(word): there is no such group; a number does, too")
    }
    return id
  }

  private static func apply(
    _ word: String, _ parts: [Substring], to session: inout SessionOptions
  ) throws(Failure) {
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
    case ("default_permissions", nil): session.defaultPermissions = true
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
    let name = word.prefix { $0 != "=" }
    if MountHelper.options.contains(String(name)) {
      let option = name.replacing("_", with: "-")
      return "-o \(name)=… is for mount(8) and /etc/fstab; here it is the option --\(option)"
    }
    if known.contains("\(word)=") { return "-o \(word) needs a value: \(word)=…" }
    if name != word, known.contains(String(name)) { return "-o \(name) takes no value" }
    // What is before the value can be meant whatever the value is.
    let head = name == word ? word : "\(name)="
    let heads = known.map { $0.contains("=") ? $0.prefix { $0 != "=" } + "=" : $0 }
    let near = Guess.word(near: head, among: heads).map { "; did you mean '\($0)'?" } ?? ""
    return "unknown mount option '\(word)'\(near)"
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
}
