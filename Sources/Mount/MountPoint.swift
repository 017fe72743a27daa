import CFuse
import Glibc
import SystemPackage

/// Why a mount could not be made or served.
public enum MountError: Error, Equatable, CustomStringConvertible {
  /// Nothing exists at the path.
  case mountPointMissing(String)
  /// The path is not a directory.
  case notADirectory(String)
  /// The directory holds entries that the mount would hide.
  case notEmpty(String)
  /// The user may not mount on the directory.
  case notWritable(String)
  /// A vault is mounted there already.
  case alreadyMounted(String)
  /// A FUSE mount whose process is gone still covers the path.
  case staleMount(String)
  /// The kernel has no FUSE device.
  case noFuseDevice
  /// /dev/fuse exists and may not be opened.
  case fuseDeviceRefused(Errno)
  /// Mounting without privilege needs libfuse's helper, which is not installed.
  case noFusermount
  /// `allow_other` from a user needs a line in /etc/fuse.conf.
  case allowOtherForbidden
  /// An option nobody knows.
  case unknownOption(String)
  /// libfuse or the kernel refused, with what libfuse said.
  case refused(String)
  /// The kernel ended the connection before it was negotiated.
  case handshakeFailed(String)
  /// A system call failed, with what was being done.
  case io(String, Errno)

  /// One line for the user that says what to do.
  public var description: String {
    switch self {
    case .mountPointMissing(let path): "the mount point \(path) does not exist"
    case .notADirectory(let path): "the mount point \(path) is not a directory"
    case .notEmpty(let path):
      "the mount point \(path) is not empty (use -o nonempty to hide what it holds)"
    case .notWritable(let path):
      "the mount point \(path) is not a directory this user may write to, and on others only root mounts"
    case .alreadyMounted(let path): "a vault is mounted at \(path) already"
    case .staleMount(let path):
      "a dead mount covers \(path): its process is gone ('\(MountTable.unmounter(path)) \(path)' clears it)"
    case .noFuseDevice:
      "there is no /dev/fuse: the fuse module is not loaded, or this container was not given the device"
    case .fuseDeviceRefused(let error):
      "/dev/fuse cannot be opened: \(error) (its mode decides for users, the container's device list for root)"
    case .noFusermount:
      "fusermount3 is not installed, and only root can mount without it (install the fuse3 package)"
    case .allowOtherForbidden:
      "allow_other needs the line user_allow_other in /etc/fuse.conf when the user is not root"
    case .unknownOption(let option): "unknown mount option \(option)"
    case .refused(let text): "the mount was refused: \(text)"
    case .handshakeFailed(let text): "the kernel ended the mount at once: \(text)"
    case .io(let action, let error): "\(action): \(error)"
    }
  }
}

/// Checks before mounting, so that the user reads the cause and not what libfuse makes of it.
public enum MountPoint {
  /// Whether an error is how a mount whose daemon is gone answers.
  public static func meansDead(_ error: Int32) -> Bool {
    // The last is how the end of a ring can reach who waits for an answer.
    [ENOTCONN, ECONNABORTED, ECANCELED].contains(error)
  }

  /// Whether the daemon of a mount is gone.
  public static func isDead(_ path: UnsafePointer<CChar>) -> Bool {
    // Always asks the daemon, while stat(2) may be answered from the kernel's cache.
    var status = statvfs()
    return statvfs(path, &status) != 0 && meansDead(errno)
  }

  /// The absolute path of the mount point, found fit for `options`.
  static func check(_ path: String, options: SessionOptions) throws(MountError) -> String {
    var status = stat()
    guard stat(path, &status) == 0 else { throw unreachable(path, Errno(rawValue: errno)) }
    guard status.st_mode & S_IFMT == S_IFDIR else { throw .notADirectory(path) }
    guard let resolved = realpath(path, nil) else {
      throw .io("resolving \(path)", Errno(rawValue: errno))
    }
    defer { free(resolved) }
    let absolute = String(cString: resolved)
    if MountTable.entry(at: absolute)?.type == "fuse.\(options.subtype)" {
      throw isDead(absolute) ? .staleMount(absolute) : .alreadyMounted(absolute)
    }
    if !options.nonEmpty, try holdsEntries(absolute) { throw .notEmpty(absolute) }
    try checkDevice()
    guard geteuid() != 0 else { return absolute }
    guard Fusermount.isInstalled else { throw .noFusermount }
    if options.allowOther || options.allowRoot, !othersMayBeAllowed() { throw .allowOtherForbidden }
    // As fusermount3 judges, which says so to nobody in particular.
    let isOthers = status.st_mode & mode_t(Glibc.S_ISVTX) != 0 && status.st_uid != getuid()
    guard access(absolute, W_OK) == 0, !isOthers else { throw .notWritable(absolute) }
    return absolute
  }

  private static func unreachable(_ path: String, _ error: Errno) -> MountError {
    switch error {
    case .noSuchFileOrDirectory: .mountPointMissing(path)
    case .notDirectory: .notADirectory(path)
    case _ where meansDead(error.rawValue): .staleMount(path)
    default: .io("looking at the mount point \(path)", error)
    }
  }

  private static func holdsEntries(_ path: String) throws(MountError) -> Bool {
    guard let directory = opendir(path) else {
      throw .io("reading the mount point \(path)", Errno(rawValue: errno))
    }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      let first = entry.pointee.d_name
      let isDot = first.0 == 46 && (first.1 == 0 || (first.1 == 46 && first.2 == 0))
      if !isDot { return true }
    }
    return false
  }

  private static func checkDevice() throws(MountError) {
    let device = open("/dev/fuse", O_RDWR | O_CLOEXEC)
    if device >= 0 {
      close(device)
      return
    }
    // Also for a user: libfuse opens the device itself before it thinks of fusermount3.
    let error = errno
    guard [ENOENT, ENODEV, ENXIO].contains(error) else {
      throw .fuseDeviceRefused(Errno(rawValue: error))
    }
    throw .noFuseDevice
  }

  private static func othersMayBeAllowed() -> Bool {
    guard let text = TextFile.read("/etc/fuse.conf") else { return false }
    return text.split(separator: "\n").contains { line in
      line.filter { !$0.isWhitespace } == "user_allow_other"
    }
  }
}

/// Small files of /proc, /sys and /etc.
enum TextFile {
  /// The first 1 MiB of a file as text, or nil when it cannot be read.
  static func read(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16384)
    while bytes.count < 1 << 20 {
      // SAFETY: the call writes at most `count` bytes into the array it is lent.
      let count = chunk.withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress, $0.count) }
      if count < 0 { return nil }
      if count == 0 { break }
      bytes += chunk[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The first line without the white space around it, or nil.
  static func line(_ path: String) -> String? {
    guard let text = read(path), let first = text.split(separator: "\n").first else { return nil }
    return String(first.drop { $0 == " " })
  }
}

/// One line of /proc/self/mountinfo.
struct MountTableEntry: Equatable {
  /// `major:minor` of the mounted filesystem.
  let device: String
  let path: String
  /// `fuse.scrim` for one of ours.
  let type: String
}

/// The mounts this process sees.
enum MountTable {
  /// The topmost mount at exactly `path`, or nil when there is none or /proc is not mounted.
  static func entry(at path: String) -> MountTableEntry? {
    guard let text = TextFile.read("/proc/self/mountinfo") else { return nil }
    return text.split(separator: "\n").last { parse($0)?.path == path }.flatMap(parse)
  }

  /// What takes away the mount at `path`.
  static func unmounter(_ path: String) -> String {
    entry(at: path)?.type == "fuse.scrim" ? "scrim umount" : "fusermount3 -u"
  }

  /// Reads one line: `36 35 98:0 /root /path opts tags - type source superopts`.
  static func parse(_ line: Substring) -> MountTableEntry? {
    let fields = line.split(separator: " ")
    guard fields.count > 6, let dash = fields[6...].firstIndex(of: "-"), dash + 1 < fields.count
    else { return nil }
    return MountTableEntry(
      device: String(fields[2]), path: unescape(fields[4]), type: String(fields[dash + 1]))
  }

  /// The kernel writes space, tab, newline and backslash as three octal digits.
  private static func unescape(_ field: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = field.utf8[...]
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3)
      if byte == 0x5C, digits.count == 3,
        let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
      {
        bytes.append(value)
        rest = rest.dropFirst(3)
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
