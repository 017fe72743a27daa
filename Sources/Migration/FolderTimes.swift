import Primitives
import Vault

/// The times of a directory that is being moved, kept with its counterpart in the vault until all
/// of it is there: taking files out of the source changes the source's own.
enum FolderTimes {
  private static let name = Array("user.scrim-migration".utf8)

  /// Notes the times, or puts those into the status that an earlier run noted.
  static func keep(_ status: inout FileStatus, in directory: VaultDirectory) {
    guard let attributes = try? directory.attributes() else { return }
    if let noted = try? attributes.get(name), let times = parse(noted) {
      (status.atime, status.mtime) = times
      return
    }
    let text = "\(text(status.atime)) \(text(status.mtime))"
    // Without attributes only a killed run loses the times of a directory.
    try? attributes.set(name, Array(text.utf8))
  }

  /// Leaves nothing behind.
  static func forget(_ attributes: Attributes) {
    try? attributes.remove(name)
  }

  private static func text(_ time: TimeSpec) -> String {
    "\(time.seconds) \(time.nanoseconds)"
  }

  private static func parse(_ bytes: [UInt8]) -> (access: TimeSpec, modification: TimeSpec)? {
    let parts = String(decoding: bytes, as: UTF8.self).split(separator: " ")
    guard parts.count == 4, let access = Int64(parts[0]), let accessPart = UInt32(parts[1]),
      let modification = Int64(parts[2]), let modificationPart = UInt32(parts[3])
    else { return nil }
    return (
      TimeSpec(seconds: access, nanoseconds: accessPart),
      TimeSpec(seconds: modification, nanoseconds: modificationPart)
    )
  }
}
