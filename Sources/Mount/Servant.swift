import CFuse
import CLinux
import Glibc
import Primitives
import SystemPackage

/// The user who serves a mount that root started: the owner of the vault, so that the process with the keys has no
/// privilege. Root's identity is put aside for mounting and then given up for good.
///
/// A mount that several users enter stays root's: it has to give what they make to them.
public struct Servant: Sendable {
  /// The owner of the vault's folder.
  public let user: UInt32
  private let group: UInt32
  /// The user's name.
  public let name: String

  /// Who is to serve a vault, or nil where this process should stay who it is.
  ///
  /// - Parameters:
  ///   - folder: The vault's folder.
  ///   - options: How it will be mounted.
  public init?(vault folder: String, options: SessionOptions) {
    guard geteuid() == 0, !options.allowOther, Fusermount.isInstalled,
      let status = try? Sys.statx(Sys.currentDirectory, Array(folder.utf8)), status.uid != 0,
      // fusermount3 serves nobody without a name, and could not be used to unmount.
      let entry = getpwuid(status.uid)
    else { return nil }
    user = status.uid
    // Not the folder's: a FUSE mount lets processes in that have its user and its group.
    group = entry.pointee.pw_gid
    name = String(cString: entry.pointee.pw_name)
  }

  /// Becomes the user, for everything but ``asRoot(_:)``; the whole process.
  ///
  /// - Throws: `io`.
  public func enter() throws(MountError) {
    try check(scrim_serve_as(user, group), "becoming \(name)")
  }

  /// Whether the user gets to the mount point at all: without that nobody could use the mount.
  func check(reaches path: String) throws(MountError) {
    var status = stat()
    guard stat(path, &status) != 0, errno == EACCES else { return }
    throw .refused(
      "it would be \(name)'s, as the vault is, but \(name) cannot reach \(path); choose another mount "
        + "point, or -o keep_root to stay root")
  }

  /// Mounts with root's rights for the user, and gives root up.
  func asRoot<R>(_ body: () throws(MountError) -> R) throws(MountError) -> R {
    try check(scrim_raise_root(), "mounting as root")
    let outcome: Result<R, MountError>
    do throws(MountError) {
      outcome = .success(try body())
    } catch {
      outcome = .failure(error)
    }
    try check(scrim_renounce_root(user), "giving root up")
    // Another identity has put it back to what the system says.
    try? Sys.setDumpable(false)
    return try outcome.get()
  }

  private func check(_ result: Int32, _ action: String) throws(MountError) {
    guard result == 0 else { throw .io(action, Errno(rawValue: -result)) }
  }
}
