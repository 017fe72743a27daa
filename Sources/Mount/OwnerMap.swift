import CFuse
import Glibc
import SystemPackage
import Vault

/// Who owns everything in a mount, whatever the vault says: for a vault that comes from a machine with other users.
public struct OwnerMap: Sendable, Equatable {
  /// The user shown, nil for the stored one.
  public var uid: UInt32?
  /// The group shown, nil for the stored one.
  public var gid: UInt32?

  /// Shows what is stored.
  public init() {}

  /// Puts the shown owner in the place of the stored one.
  func show(_ status: inout stat) {
    if let uid { status.st_uid = uid }
    if let gid { status.st_gid = gid }
  }

  /// A change without owners that are shown anyway; another one cannot be given, since it would not show.
  func stored(_ change: AttributeChange) throws -> AttributeChange {
    var change = change
    if let uid {
      guard change.uid ?? uid == uid else { throw Errno.notPermitted }
      change.uid = nil
    }
    if let gid {
      guard change.gid ?? gid == gid else { throw Errno.notPermitted }
      change.gid = nil
    }
    return change
  }

  /// Who is to own what `caller` makes in a directory of `parent`: what is shown instead is stored like the directory's.
  func owner(_ caller: Caller, in parent: Owner) -> Owner {
    Owner(
      uid: uid == nil ? caller.uid : parent.uid, gid: gid == nil ? caller.gid : parent.gid)
  }

  /// Whether owners are shown as they are stored.
  var isEmpty: Bool { uid == nil && gid == nil }
}
