/// What may have been meant by a path that no vault is mounted on, or that is in no mount.
enum NotMounted {
  /// For commands on mount points: names the mount of the vault that was given instead, the one the path is in, or one of a
  /// similar name.
  static func on(_ path: PathArgument) throws(Failure) -> Failure {
    let full = path.absolute
    let mounts = try MountTable.read().filter(\.isScrim)
    let meant =
      mounts.first { $0.source == full || full.starts(with: $0.point + [UInt8(ascii: "/")]) }?.point
    let near =
      meant.map { String(decoding: $0, as: UTF8.self) }
      ?? Guess.word(
        near: String(decoding: full, as: UTF8.self),
        among: mounts.map { String(decoding: $0.point, as: UTF8.self) })
    let hint =
      near.map { "; did you mean \(StatusText.safe($0))?" }
      ?? (mounts.isEmpty ? "" : "; 'scrim mounts' lists what is")
    return Failure(.notMounted, "no vault is mounted on \(path.text)\(hint)")
  }

  /// For commands on what is in a mount: names the mount of the vault in whose folder the path is.
  static func inside(_ path: PathArgument) throws(Failure) -> Failure {
    let full = path.absolute
    let mount = try MountTable.read().last { entry in
      entry.isScrim
        && (full == entry.source || full.starts(with: entry.source + [UInt8(ascii: "/")]))
    }
    let hint = mount.map {
      "; it is in the folder of the vault that is mounted on "
        + StatusText.safe(String(decoding: $0.point, as: UTF8.self))
    }
    return Failure(.notMounted, "\(path.text) is not in a mounted vault\(hint ?? "")")
  }
}
