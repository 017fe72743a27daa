import Glibc

/// Whether requests travel over io_uring.
public enum IOUringMode: String, Sendable, CaseIterable {
  /// Where the kernel offers it.
  case auto
  /// Like `auto`, but a mount that does without it says so as a warning.
  case on
  /// Never.
  case off
}

/// How a vault is mounted.
public struct SessionOptions: Sendable {
  /// What the mount table shows as the device: the vault's path.
  public var source: String
  /// Shown as `fuse.SUBTYPE`.
  public var subtype = "scrim"
  /// Mount read-only.
  public var readOnly = false
  /// Users other than the one who mounts may come in; permissions decide.
  public var allowOther = false
  /// Root may come in beside the user who mounts, and nobody else.
  public var allowRoot = false
  /// The kernel checks permissions by mode, owner and ACL; nil: unless the mount is for root alone.
  ///
  /// Every change of a directory makes it ask for the directory's attributes before the next one, to check a permission
  /// that root has anyway.
  public var defaultPermissions: Bool?
  /// Honour set-uid and set-gid bits. Someone without the key can plant them in plain directories.
  public var honoursSetUID = false
  /// Honour device nodes, with the same warning.
  public var honoursDevices = false
  /// Refuse to execute anything.
  public var noExec = false
  /// Mount over a directory that holds entries.
  public var nonEmpty = false
  /// Further options from ``passedThrough`` (`noatime`, `sync`, ...).
  public var extra: [String] = []
  /// Who is shown as owner of everything.
  public var owners = OwnerMap()
  /// Who serves a mount of root's; nil: this process as it is.
  public var servant: Servant?
  /// A broker started before root was given up.
  public var broker: StartedBroker?
  /// Unmount after so many milliseconds without a request and without an open file; nil: never.
  public var idleMilliseconds: UInt64?

  /// Ask for kernel passthrough of plain files.
  public var passthrough = true
  /// Let the kernel gather writes in its page cache. It then believes no size or time but its own, and refuses passthrough.
  public var writeback = false
  /// An open regular file of the backing filesystem to try passthrough with; borrowed until INIT is answered.
  public var passthroughProbe: Int32?
  /// 1, or 2 where the backing filesystem is itself stacked (overlayfs), which then cannot be stacked upon.
  public var stackDepth: UInt32 = 1
  /// The folder that holds `scrim.vault`: an unprivileged mount gets passthrough for what is in it from a broker.
  public var vaultFolder: String?
  /// Registers backing files; nil: the session's own descriptor, or a broker.
  public var registrar: (any BackingRegistrar)?

  /// Whether requests travel over io_uring.
  public var ioUring = IOUringMode.auto
  /// Requests in flight per ring, 1 to 64. Each may take 1 MiB once it carried that much.
  public var ringDepth = 4
  /// Device workers without rings; nil: as many as online processors, at least 2.
  public var workers: Int?
  /// Read-ahead of the mount in KiB, set where permitted; nil leaves it alone.
  ///
  /// Two requests' worth, so that one is decrypted while the other is on its way to its reader: with 1024 reads were a
  /// fifth slower. With 8192 those of cheap data were up to half as fast, since the bytes had left the processor's cache
  /// by the time they were wanted.
  public var readAheadKiB: Int? = 2048
  /// Asynchronous requests in flight, and from where the kernel holds writers back.
  public var maxBackground: UInt16 = 64
  /// See ``maxBackground``.
  public var congestionThreshold: UInt16 = 48

  /// Options with the defaults above.
  ///
  /// - Parameter source: what the mount table shows as the device.
  public init(source: String) { self.source = source }

  /// Mount options that libfuse and fusermount3 understand without our help.
  public static let passedThrough: Set<String> = [
    "async", "atime", "dirsync", "exec", "noatime", "nodiratime", "rw", "sync",
  ]

  /// Whether it is the kernel that checks permissions. Nobody does for a mount that only root can enter.
  var leavesPermissions: Bool {
    defaultPermissions ?? (!Self.isRootOfTheMachine || allowOther || allowRoot || servant != nil)
  }

  /// Root, and not only that of a user namespace (user_namespaces(7)): its rights end at its own users, and without the
  /// kernel's checks it would have no access lists.
  private static var isRootOfTheMachine: Bool {
    geteuid() == 0
      && TextFile.line("/proc/self/uid_map")?.split(separator: " ") == ["0", "0", "4294967295"]
  }

  /// The argument of `-o`.
  ///
  /// - Throws: `unknownOption` for an extra option that is none of ``passedThrough``.
  func mountArgument() throws(MountError) -> String {
    var parts = ["fsname=\(Self.escape(source))", "subtype=\(Self.escape(subtype))"]
    parts.append(readOnly ? "ro" : "rw")
    parts.append(honoursSetUID ? "suid" : "nosuid")
    parts.append(honoursDevices ? "dev" : "nodev")
    if noExec { parts.append("noexec") }
    if allowOther { parts.append("allow_other") } else if allowRoot { parts.append("allow_root") }
    if leavesPermissions { parts.append("default_permissions") }
    for option in extra {
      guard Self.passedThrough.contains(option) else { throw .unknownOption(option) }
      parts.append(option)
    }
    return parts.joined(separator: ",")
  }

  /// libfuse splits at commas and removes backslashes.
  private static func escape(_ value: String) -> String {
    var result = ""
    for character in value {
      if character == "," || character == "\\" { result.append("\\") }
      result.append(character)
    }
    return result
  }
}
