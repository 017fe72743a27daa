import Primitives
import SystemPackage

extension VaultDirectory {
  /// Makes an entry outlive its name: it can be used like any other after that is gone, and with it the
  /// directory. Its inode lives for as long as the result does.
  ///
  /// - Parameter entry: Anything that `lookup` found.
  /// - Returns: The entry, with its inode open (O_PATH).
  /// - Throws: As `openNode(_:)`.
  public func outliving(_ entry: VaultEntry) throws(VaultError) -> VaultEntry {
    var kept = entry
    kept.node = try openNode(entry)
    return kept
  }

  /// Opens an entry that may have no name any more.
  func reopen(_ node: SharedFD, _ flags: OpenFlags) throws(VaultError) -> SharedFD {
    if flags.contains(.path) { return node }
    return try attempt("opening a file without a name") { () throws(Errno) in
      SharedFD(try Sys.reopen(node.rawValue, flags))
    }
  }
}
