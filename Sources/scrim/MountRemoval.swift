import Glibc
import Mount

/// Taking mounts away, of daemons that are there and of ones that were killed.
enum MountRemoval {
  /// Takes a dead mount of Scrim's out of the way of a new one.
  static func clearDead(at point: PathArgument) throws(Failure) {
    guard MountPoint.isDead(point.terminated),
      let entry = try MountTable.scrimMount(at: point.absolute)
    else { return }
    try detach(entry, lazily: true)
    Output.complain("\(point.text): the daemon of an earlier mount was gone; its mount is cleared")
  }

  /// Takes a mount away.
  static func detach(_ entry: MountEntry, lazily: Bool) throws(Failure) {
    let path = PathArgument(bytes: entry.point)
    // A daemon that has only just ended its last request may hold the mount for a moment.
    for attempt in 0..<20 {
      if umount2(path.terminated, lazily ? Int32(MNT_DETACH) : 0) == 0 { return }
      var code = errno
      if code == EPERM {
        guard let refusal = Fusermount.unmount(entry, lazily: lazily) else { return }
        guard refusal.isBusy else {
          throw Failure(.system, "\(path.text) cannot be unmounted: \(refusal.reason)")
        }
        code = EBUSY
      }
      guard code == EBUSY else {
        throw Failure(.system, "\(path.text) cannot be unmounted: \(Output.errnoText(code))")
      }
      if attempt < 19 { usleep(10_000) }
    }
    let users = MountUsers.find(of: entry.point)
    let whom = users.isEmpty ? "" : " by \(users.joined(separator: ", "))"
    throw Failure(
      .busy, "\(path.text) is in use\(whom); close what is open there, or use --lazy")
  }
}
