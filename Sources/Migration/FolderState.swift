import Primitives

/// Times and mode of a directory that is being moved, kept with its counterpart in the vault until all
/// of it is there: taking files out of the source changes the source's own.
enum FolderState {
  static let name = Array("user.scrim-migration".utf8)

  /// Notes them, or puts those into the status that an earlier run noted.
  static func keep(_ status: inout FileStatus, in node: ReceivedNode) {
    let descriptor = node.descriptor.rawValue
    if let noted = node.target.get(name, descriptor), restore(noted, to: &status) { return }
    let text = "\(text(status.atime)) \(text(status.mtime)) \(status.mode)"
    // Without attributes only a killed run loses them.
    try? node.target.set((name, Array(text.utf8)), descriptor)
  }

  /// Puts what was noted into a status.
  ///
  /// - Returns: Whether it is what `keep` notes.
  @discardableResult
  static func restore(_ noted: [UInt8], to status: inout FileStatus) -> Bool {
    let parts = String(decoding: noted, as: UTF8.self).split(separator: " ")
    guard parts.count == 5, let access = Int64(parts[0]), let accessPart = UInt32(parts[1]),
      let modification = Int64(parts[2]), let modificationPart = UInt32(parts[3]),
      let mode = UInt32(parts[4])
    else { return false }
    status.atime = TimeSpec(seconds: access, nanoseconds: accessPart)
    status.mtime = TimeSpec(seconds: modification, nanoseconds: modificationPart)
    status.mode = mode
    return true
  }

  /// Leaves nothing behind.
  static func forget(_ node: ReceivedNode) {
    node.target.remove(name, node.descriptor.rawValue)
  }

  private static func text(_ time: TimeSpec) -> String {
    "\(time.seconds) \(time.nanoseconds)"
  }
}
