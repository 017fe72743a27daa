import CLinux
import Glibc

/// A point in time or a span: seconds since 1970 and nanoseconds below 10^9.
public struct TimeSpec: Sendable, Hashable, Comparable {
  /// Seconds; negative before 1970.
  public var seconds: Int64
  /// Nanoseconds to add, 0 to 999,999,999.
  public var nanoseconds: UInt32

  /// Joins the two parts.
  public init(seconds: Int64, nanoseconds: UInt32) {
    self.seconds = seconds
    self.nanoseconds = nanoseconds
  }

  /// The earlier of two sorts first.
  public static func < (left: TimeSpec, right: TimeSpec) -> Bool {
    (left.seconds, left.nanoseconds) < (right.seconds, right.nanoseconds)
  }
}

/// What setting a file's times does to one of them.
public enum TimeUpdate: Sendable, Equatable {
  /// Leaves it as it is.
  case omit
  /// Sets the kernel's current time.
  case now
  /// Sets this time.
  case set(TimeSpec)

  var raw: scrim_time_update {
    switch self {
    case .omit: scrim_time_update(seconds: 0, nanoseconds: 0, kind: 2)
    case .now: scrim_time_update(seconds: 0, nanoseconds: 0, kind: 1)
    case .set(let time):
      scrim_time_update(seconds: time.seconds, nanoseconds: time.nanoseconds, kind: 0)
    }
  }
}

/// The type of a filesystem object.
public enum FileKind: UInt8, Sendable {
  /// The filesystem does not say.
  case unknown = 0
  /// A named pipe.
  case fifo = 1
  /// A character device.
  case characterDevice = 2
  /// A directory.
  case directory = 4
  /// A block device.
  case blockDevice = 6
  /// A regular file.
  case regular = 8
  /// A symbolic link.
  case symbolicLink = 10
  /// A socket.
  case socket = 12

  /// The type within st_mode; the raw values are those of d_type, which are the same bits.
  public init(mode: UInt32) {
    self = FileKind(rawValue: UInt8(truncatingIfNeeded: (mode & 0o170000) >> 12)) ?? .unknown
  }
}

/// The fields statx(2) is asked for; what is not asked for may be zero.
public struct StatusFields: OptionSet, Sendable {
  /// STATX_ bits.
  public let rawValue: UInt32

  /// Takes STATX_ bits as they are.
  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// The file type in the mode.
  public static let type = StatusFields(rawValue: scrim_STATX_TYPE)
  /// The permission bits in the mode.
  public static let mode = StatusFields(rawValue: scrim_STATX_MODE)
  /// The inode number.
  public static let inode = StatusFields(rawValue: scrim_STATX_INO)
  /// The size in bytes.
  public static let size = StatusFields(rawValue: scrim_STATX_SIZE)
  /// The time of the last modification.
  public static let mtime = StatusFields(rawValue: scrim_STATX_MTIME)
  /// Everything stat(2) gives.
  public static let basic = StatusFields(rawValue: scrim_STATX_BASIC_STATS)
  /// The time of creation.
  public static let btime = StatusFields(rawValue: scrim_STATX_BTIME)
  /// The mount the file is on.
  public static let mount = StatusFields(rawValue: scrim_STATX_MNT_ID)
}

/// What the filesystem knows about a file.
public struct FileStatus: Sendable {
  /// The fields the kernel filled in.
  public var fields: StatusFields
  /// The device the file is on.
  public var device: UInt64
  /// The inode number.
  public var inode: UInt64
  /// File type and permission bits.
  public var mode: UInt32
  /// Number of hard links.
  public var links: UInt32
  /// The owner.
  public var uid: UInt32
  /// The group.
  public var gid: UInt32
  /// The device a device file stands for.
  public var rdev: UInt64
  /// Size in bytes.
  public var size: UInt64
  /// Space taken, in units of 512 bytes.
  public var blocks: UInt64
  /// Preferred size of requests, in bytes.
  public var blockSize: UInt32
  /// Last access.
  public var atime: TimeSpec
  /// Last modification of the content.
  public var mtime: TimeSpec
  /// Last change of the inode.
  public var ctime: TimeSpec
  /// Creation; zero unless `.btime` was asked for and the filesystem keeps it.
  public var btime: TimeSpec
  /// The mount; zero unless `.mount` was asked for.
  public var mountID: UInt64

  init(_ raw: scrim_status) {
    fields = StatusFields(rawValue: raw.mask)
    device = raw.device
    inode = raw.inode
    mode = raw.mode
    links = raw.links
    uid = raw.uid
    gid = raw.gid
    rdev = raw.rdevice
    size = raw.size
    blocks = raw.blocks
    blockSize = raw.block_size
    atime = TimeSpec(seconds: raw.access_seconds, nanoseconds: raw.access_nanoseconds)
    mtime = TimeSpec(seconds: raw.modification_seconds, nanoseconds: raw.modification_nanoseconds)
    ctime = TimeSpec(seconds: raw.change_seconds, nanoseconds: raw.change_nanoseconds)
    btime = TimeSpec(seconds: raw.birth_seconds, nanoseconds: raw.birth_nanoseconds)
    mountID = raw.mount_id
  }

  /// The file type within the mode.
  public var kind: FileKind { FileKind(mode: mode) }
}

/// What statfs(2) says about a filesystem.
public struct FilesystemStatus: Sendable {
  /// The filesystem's magic number.
  public var type: UInt64
  /// Unit of the three block counts, in bytes.
  public var fragmentSize: UInt64
  /// Preferred size of requests, in bytes.
  public var blockSize: UInt64
  /// Size of the filesystem.
  public var blocks: UInt64
  /// Free blocks.
  public var freeBlocks: UInt64
  /// Free blocks an unprivileged user may take.
  public var availableBlocks: UInt64
  /// Number of inodes.
  public var files: UInt64
  /// Free inodes.
  public var freeFiles: UInt64
  /// Longest name, in bytes.
  public var nameLength: UInt64
  /// ST_ mount flags.
  public var flags: UInt64
  /// The filesystem's ID.
  public var id: UInt64

  init(_ raw: scrim_filesystem) {
    type = raw.type
    fragmentSize = raw.fragment_size
    blockSize = raw.block_size
    blocks = raw.blocks
    freeBlocks = raw.free_blocks
    availableBlocks = raw.available_blocks
    files = raw.files
    freeFiles = raw.free_files
    nameLength = raw.name_length
    flags = raw.flags
    id = raw.id
  }
}
