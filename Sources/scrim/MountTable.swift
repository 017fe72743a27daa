import Glibc

/// One line of /proc/self/mountinfo (proc(5)).
struct MountEntry {
  /// `major:minor` of the mounted filesystem, as stat(2) gives it for what is inside.
  let device: String
  let source: [UInt8]
  let point: [UInt8]
  let type: String
  /// The user whose it is, as FUSE mounts tell, and the group.
  let owner: uid_t?
  let group: gid_t?

  var isScrim: Bool { type == "fuse.scrim" }
}

/// The mounts this process sees.
enum MountTable {
  /// Every mount; of several on one point the last one is on top.
  static func read() throws(Failure) -> [MountEntry] {
    guard let entries = read(asSeenBy: "self") else {
      throw Failure(.system, "/proc/self/mountinfo cannot be read: \(Output.errnoText())")
    }
    return entries
  }

  private static func read(asSeenBy process: String) -> [MountEntry]? {
    FileText.read("/proc/\(process)/mountinfo")?
      .split(separator: UInt8(ascii: "\n")).compactMap(parse)
  }

  /// Where a filesystem is mounted too, in this mount namespace or in another one that can be
  /// looked into; nil if nowhere.
  static func otherPlace(of device: String) -> String? {
    func place(asSeenBy process: String) -> MountEntry? {
      read(asSeenBy: process)?.first { $0.isScrim && $0.device == device }
    }
    if let here = place(asSeenBy: "self") {
      return "it is also mounted on \(PathArgument(bytes: here.point).text)"
    }
    let own = Folder.linkTarget("/proc/self/ns/mnt")
    for id in Folder.names("/proc").compactMap({ pid_t($0) }).sorted()
    where Folder.linkTarget("/proc/\(id)/ns/mnt") != own && place(asSeenBy: "\(id)") != nil {
      return "\(RunningProcess.name(of: id)) has it in a mount namespace of its own"
    }
    return nil
  }

  /// The topmost Scrim mount at an absolute path.
  static func scrimMount(at point: [UInt8]) throws(Failure) -> MountEntry? {
    try read().last { $0.point == point && $0.isScrim }
  }

  /// Whether an open file or directory is inside a Scrim mount.
  static func isInScrimMount(_ descriptor: Int32) throws(Failure) -> Bool {
    try scrimMount(of: descriptor) != nil
  }

  /// The Scrim mount that an open file or directory is in.
  static func scrimMount(of descriptor: Int32) throws(Failure) -> MountEntry? {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw Failure(.system, "fstat: \(Output.errnoText())")
    }
    // makedev(3), which is a macro.
    let major = (status.st_dev >> 8) & 0xfff | (status.st_dev >> 32) & ~0xfff
    let minor = status.st_dev & 0xff | (status.st_dev >> 12) & ~0xff
    return try read().first { $0.isScrim && $0.device == "\(major):\(minor)" }
  }

  private static func parse(_ line: ArraySlice<UInt8>) -> MountEntry? {
    let fields = line.split(separator: UInt8(ascii: " "))
    // The number of optional fields before the dash varies.
    guard let dash = fields.firstIndex(of: ArraySlice("-".utf8)), dash >= 6,
      fields.count > dash + 2
    else { return nil }
    let options = fields.count > dash + 3 ? fields[dash + 3] : []
    let words = options.split(separator: UInt8(ascii: ","))
    let owner = words.lazy.compactMap { Self.number($0, after: "user_id=") }.first
    let group = words.lazy.compactMap { Self.number($0, after: "group_id=") }.first
    return MountEntry(
      device: String(decoding: fields[2], as: UTF8.self), source: unescape(fields[dash + 2]),
      point: unescape(fields[4]),
      type: String(decoding: fields[dash + 1], as: UTF8.self), owner: owner, group: group)
  }

  private static func number(_ option: ArraySlice<UInt8>, after name: String) -> uid_t? {
    guard option.starts(with: Array(name.utf8)) else { return nil }
    return uid_t(String(decoding: option.dropFirst(name.utf8.count), as: UTF8.self))
  }

  /// Blanks, tabs, newlines and backslashes stand as three octal digits.
  private static func unescape(_ field: ArraySlice<UInt8>) -> [UInt8] {
    var plain = [UInt8]()
    var rest = field
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3).map { Int($0) - 48 }
      if byte == UInt8(ascii: "\\"), digits.count == 3, digits.allSatisfy({ (0...7).contains($0) })
      {
        plain.append(UInt8(truncatingIfNeeded: digits[0] * 64 + digits[1] * 8 + digits[2]))
        rest = rest.dropFirst(3)
      } else {
        plain.append(byte)
      }
    }
    return plain
  }
}

/// Small files of /proc, whose size is not known before they are read.
enum FileText {
  static func read(_ path: String) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var text = [UInt8]()
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let got = chunk.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
      if got < 0 && errno == EINTR { continue }
      guard got >= 0 else { return nil }
      if got == 0 { return text }
      text += chunk[..<got]
    }
  }
}
