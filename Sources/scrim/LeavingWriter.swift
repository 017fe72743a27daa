import Container
import Glibc
import Primitives
import SystemPackage
import Vault

/// Waits for a daemon whose vault was unmounted by umount(8) or fusermount3, which return before everything is on disk.
final class LeavingWriter {
  /// How long, in seconds: then what it has to write is too much to wait for without a word.
  private static let patience: Int64 = 10

  private let vault: PathArgument
  /// What to do where somebody else writes the vault.
  private let advice: String
  private let deadline = Sys.monotonic().seconds + patience

  init(_ vault: PathArgument, advice: String) {
    self.vault = vault
    self.advice = advice
  }

  /// Opens the vault for writing, once a daemon that is about to end has ended.
  static func open(
    _ path: PathArgument, _ secret: VaultSecret, advice: String, workspace: Workspace = Workspace()
  ) throws(Failure) -> Vault {
    let writer = LeavingWriter(path, advice: advice)
    do throws(VaultError) {
      return try Vault.open(
        at: path.text, secret: secret, access: .readWrite, workspace: workspace,
        isLeaving: writer.isLeaving)
    } catch {
      throw writer.failure(error)
    }
  }

  /// Sleeps a little and returns true while it is worth to wait for the process.
  func isLeaving(_ process: Int32) -> Bool {
    guard Sys.monotonic().seconds < deadline, Self.isMount(process), mount == nil else {
      return false
    }
    usleep(10_000)
    return true
  }

  /// What keeps the vault from being opened for writing, and what helps.
  func failure(_ error: VaultError) -> Failure {
    switch error {
    case .locked(let holder):
      if let mount {
        let point = StatusText.safe(String(decoding: mount.point, as: UTF8.self))
        return Failure(.locked, "the vault is mounted on \(point) by \(holder); \(advice)")
      }
      return Failure(.locked, "the vault is already locked by \(holder); \(advice)")
    case .system(.readOnlyFileSystem, _):
      return Failure(
        .system, "\(vault.text) is on a read-only filesystem, where only --read-only works")
    case .system(.permissionDenied, _):
      return Failure(
        .system, "this user may not write to \(vault.text); only its owner can, or --read-only")
    default: return Failure(error)
    }
  }

  /// Where the vault is mounted, by what the mount table says.
  private var mount: MountEntry? {
    let folder = vault.absolute
    return try? MountTable.read().last { $0.isScrim && $0.source == folder }
  }

  /// Whether a process is a mount's daemon: other writers take as long as they take.
  private static func isMount(_ process: Int32) -> Bool {
    guard let words = FileText.read("/proc/\(process)/cmdline")?.split(separator: 0) else {
      return false
    }
    return words.count > 1 && words[1] == ArraySlice("mount".utf8)
  }
}
