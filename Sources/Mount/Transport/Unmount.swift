import Glibc
import SystemPackage

/// Taking a mount away.
enum Unmount {
  /// Unmounts `path`: nil when done, so that the connection ends by itself; otherwise why it stays.
  static func run(_ path: String, options: SessionOptions) -> Errno? {
    // Somebody may have detached our mount already and mounted something else here.
    guard MountTable.entry(at: path)?.type == "fuse.\(options.subtype)" else {
      return .noSuchFileOrDirectory
    }
    if geteuid() == 0 {
      return umount2(path, Int32(UMOUNT_NOFOLLOW)) == 0 ? nil : Errno(rawValue: errno)
    }
    return Fusermount.unmount(path)
  }
}

/// libfuse's set-uid helper.
enum Fusermount {
  /// Whether there is one to run.
  static var isInstalled: Bool {
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    let directories = path.split(separator: ":").map(String.init) + ["/usr/bin", "/bin"]
    return directories.contains { access("\($0)/fusermount3", X_OK) == 0 }
  }

  /// `fusermount3 -u -q PATH`: nil when it succeeded.
  static func unmount(_ path: String) -> Errno? {
    let words = ["fusermount3", "-u", "-q", "--", path]
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { word in strdup(word) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var child = pid_t()
    // The helper is set-uid: it gets no environment of ours.
    let environment: [UnsafeMutablePointer<CChar>?] = [nil]
    let spawned = posix_spawnp(&child, "fusermount3", nil, nil, arguments, environment)
    guard spawned == 0 else { return Errno(rawValue: spawned) }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 {
      guard errno == EINTR else { return Errno(rawValue: errno) }
    }
    return status == 0 ? nil : .resourceBusy
  }
}
