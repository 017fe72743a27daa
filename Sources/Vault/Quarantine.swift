import Primitives
import SystemPackage

/// The folder in the vault's that takes what a repair moves aside: `lost+found-…/DIRECTORY ID/NAME`.
final class Quarantine {
  private let base: SharedFD
  private let name: String
  private var folder: SharedFD?

  init(base: SharedFD, name: String) {
    self.base = base
    self.name = name
  }

  /// Moves something out of its directory.
  ///
  /// - Parameters:
  ///   - entry: Its name.
  ///   - directory: Where it is.
  ///   - id: Names the subfolder, so that it can be put back.
  /// - Returns: Where it is now, from the vault's folder.
  /// - Throws: `.system`.
  func take(
    _ entry: [UInt8], from directory: Int32, id: DirectoryID?
  ) throws(VaultError) -> String {
    let place = id.map(\.description) ?? "vault"
    return try attempt("moving aside") { () throws(Errno) in
      let folder = try open()
      let subfolder = try makeFolder([UInt8](place.utf8), in: folder.rawValue)
      for number in 0..<1000 {
        let suffix = number == 0 ? [] : [UInt8](".\(number)".utf8)
        let name = entry.prefix(Format.maximumName - suffix.count) + suffix
        do throws(Errno) {
          try renameToNew(directory, entry, subfolder.rawValue, Array(name))
          return "\(self.name)/\(place)/\(String(decoding: name, as: UTF8.self))"
        } catch .fileExists {
          continue
        }
      }
      throw .fileExists
    }
  }

  private func open() throws(Errno) -> SharedFD {
    if let folder { return folder }
    let made = SharedFD(try makeFolder([UInt8](name.utf8), in: base.rawValue))
    folder = made
    return made
  }

  private func makeFolder(_ name: [UInt8], in directory: Int32) throws(Errno) -> OwnedFD {
    do throws(Errno) {
      try Sys.mkdirat(directory, name, mode: 0o700)
    } catch .fileExists {
      // From what was moved before.
    }
    return try Sys.openat(directory, name, [.readOnly, .directory, .noFollow])
  }
}
