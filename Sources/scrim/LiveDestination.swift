import Container
import FoundationEssentials
import Glibc
import Migration
import Primitives
import Synchronization
import SystemPackage
import Vault

/// A mount as the target of a migration: `MOUNT`, a directory in it, or either with `:PATH`.
struct LiveDestination {
  let destination: MigrationDestination
  /// Names below the directory that exists.
  let names: [[UInt8]]
  /// The mount point.
  let point: [UInt8]

  private let root: SharedFD

  /// Nil for what is not in a mount.
  init?(_ argument: PathArgument) throws {
    let bytes = argument.bytes
    var found = try Self.directory(bytes)
    var names: [[UInt8]] = []
    for cut in bytes.indices where found == nil && cut > 0 && bytes[cut] == UInt8(ascii: ":") {
      found = try Self.directory(Array(bytes[..<cut]))
      names = MigrationTarget.names(bytes[(cut + 1)...])
    }
    guard let folder = found, let mount = try MountTable.scrimMount(of: folder.rawValue) else {
      return nil
    }
    self.names = names
    point = mount.point
    root = SharedFD(
      try Sys.openat(Sys.currentDirectory, mount.point, [.readOnly, .directory]))
    var excluded = [try Sys.fstatx(root.rawValue)]
    // What the mount table shows may be another name.
    if let status = try? Sys.fgetxattr(root.rawValue, MountAttribute.status),
      let report = try? JSONDecoder().decode(MountPointReport.self, from: Data(status)),
      let vault = try? Sys.statx(Sys.currentDirectory, Array(report.vault.utf8))
    {
      excluded.append(vault)
    }
    destination = MigrationDestination(
      mount: folder, excluded: excluded,
      control: MountControl(policies: Self.policies, setMode: Self.setMode))
  }

  /// Nil for what is not there or not in a mount.
  private static func directory(_ path: [UInt8]) throws -> SharedFD? {
    guard
      let folder = try? Sys.openat(Sys.currentDirectory, path, [.readOnly, .directory]),
      try MountTable.isInScrimMount(folder.rawValue)
    else { return nil }
    return SharedFD(folder)
  }

  /// Keeps a second migration out, which would take the first one's unfinished files for leftovers.
  func lock() throws -> SharedFD {
    do throws(Errno) {
      try Sys.flock(root.rawValue, LOCK_EX | LOCK_NB)
    } catch .wouldBlock {
      throw Failure(.locked, "another migration into this mount is under way")
    } catch {
      throw Failure(.system, "locking the mount for a migration: \(error)")
    }
    return root
  }

  // MARK: What system calls cannot do

  private static func policies(
    _ folder: SharedFD
  ) throws(TransferError) -> MountControl.Policies {
    do {
      let text = try Sys.fgetxattr(folder.rawValue, MountAttribute.policy)
      let word = text.prefix { $0 != UInt8(ascii: ",") }
      guard let content = ContentPolicy(name: String(decoding: word, as: UTF8.self)) else {
        throw TransferError.occupied("the mount's daemon is of another version")
      }
      return (content, try Policies.rules(folder, []))
    } catch let error as TransferError {
      throw error
    } catch let error as Errno {
      throw .outside(error, "asking for a directory's policy")
    } catch {
      throw .occupied("\(error)")
    }
  }

  private static func setMode(
    _ folder: SharedFD, _ name: [UInt8], _ policy: ContentPolicy
  ) throws(TransferError) {
    let problem = Mutex<String?>(nil)
    let observer = MigrationObserver(
      report: { event in
        guard case .problem(_, let found) = event else { return }
        problem.withLock { $0 = $0 ?? found.text }
      }, wantsStop: { false })
    let conversion = LiveConversion(
      ConversionGoal(policy: policy, discards: false), waits: false, observer: observer)
    conversion.take(LivePlace(folder: folder, name: name, path: name), recursive: false)
    if case .failed(let error) = conversion.finish() { throw error }
    if let problem = problem.withLock({ $0 }) { throw .occupied("setting its mode: \(problem)") }
  }
}
