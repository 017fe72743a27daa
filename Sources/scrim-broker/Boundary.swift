import BrokerProtocol
import CLinux
import Glibc

/// What keeps registrations to files that whoever mounts could write anyway.
///
/// The kernel does not look at how a backing file was opened: a registered file is written by whoever opens
/// it for writing in the mount, with the broker's privilege and not with its own. So a descriptor must prove that its
/// sender was allowed to write the file: open for both, not a mere path, and not for appending only.
struct Boundary: ~Copyable {
  /// The vault's folder, and its header, which was needed only to know the folder by.
  private let descriptors: ReceivedDescriptors
  private let device: UInt64
  private let mount: UInt64

  /// The magic number of `scrim.vault`, docs/format.md §4.
  private static let magic = Array("SCRIMVLT".utf8)

  /// Takes over the folder and the header of a vault, if that is what they are.
  ///
  /// Its header is what no pseudo filesystem can hold, /proc for one, whose files check the credentials of whoever opened them.
  init?(_ descriptors: consuming ReceivedDescriptors) {
    let folder = descriptors[0]
    let header = descriptors[1]
    guard let status = Self.status(folder), status.mode & UInt32(S_IFMT) == UInt32(S_IFDIR),
      let other = Self.status(header), other.device == status.device,
      other.mount_id == status.mount_id, Self.isHeader(header, other),
      let path = Self.path(folder), Self.path(header) == path + "/scrim.vault".utf8
    else { return nil }
    self.init(descriptors: descriptors, device: status.device, mount: status.mount_id)
  }

  private init(descriptors: consuming ReceivedDescriptors, device: UInt64, mount: UInt64) {
    self.descriptors = descriptors
    self.device = device
    self.mount = mount
  }

  /// Whether the kernel may be given this descriptor, or why not.
  func judge(_ descriptor: Int32) -> BrokerAnswer {
    guard let status = Self.status(descriptor), status.mode & UInt32(S_IFMT) == UInt32(S_IFREG)
    else { return .notRegular }
    let flags = scrim_fcntl(descriptor, F_GETFL, 0)
    guard flags >= 0, flags & O_ACCMODE == O_RDWR, flags & (scrim_O_PATH | O_APPEND) == 0 else {
      return .notReadWrite
    }
    return holds(descriptor) ? .done : .outsideVault
  }

  /// Whether an open file is on the folder's mount and below it now, wherever both have been moved to.
  private func holds(_ descriptor: Int32) -> Bool {
    guard let status = Self.status(descriptor), status.device == device, status.mount_id == mount,
      let above = Self.path(descriptors[0]), let path = Self.path(descriptor)
    else { return false }
    let prefix = above.last == UInt8(ascii: "/") ? above : above + [UInt8(ascii: "/")]
    return path.starts(with: prefix)
  }

  private static func isHeader(_ descriptor: Int32, _ status: scrim_status) -> Bool {
    guard status.mode & UInt32(S_IFMT) == UInt32(S_IFREG) else { return false }
    var bytes = [UInt8](repeating: 0, count: magic.count)
    // SAFETY: the call writes at most `count` bytes into the array it is lent.
    let count = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
    return count == magic.count && bytes == magic
  }

  private static func status(_ descriptor: Int32) -> scrim_status? {
    var status = scrim_status()
    let fields = scrim_STATX_BASIC_STATS | scrim_STATX_MNT_ID
    guard scrim_statx(descriptor, "", scrim_AT_EMPTY_PATH, fields, &status) == 0,
      status.mask & fields == fields
    else { return nil }
    return status
  }

  /// Where the kernel says an open file is, or nil where it is too deep for one page.
  private static func path(_ descriptor: Int32) -> [UInt8]? {
    var text = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
    let count = readlink("/proc/self/fd/\(descriptor)", &text, text.count)
    guard count > 0, count < text.count else { return nil }
    let path = text.prefix(count).map { UInt8(bitPattern: $0) }
    return path.first == UInt8(ascii: "/") ? path : nil
  }
}
