import Primitives
public import SystemPackage

/// What a migration takes in.
public struct MigrationSource: Sendable {
  /// The directory that `name` is in, or that is itself the source where `name` is nil.
  let base: SharedFD
  /// The file or directory that is taken in; nil to take in what is in `base`.
  let name: [UInt8]?

  /// Opens a source.
  ///
  /// - Parameter path: A file or directory; one that ends in `/` or `/.` stands for what is in it.
  /// - Throws: The error of opening it, or the directory it is in.
  public init(path: [UInt8]) throws(Errno) {
    let slash = UInt8(ascii: "/")
    let dot = UInt8(ascii: ".")
    var trimmed = path
    if path == [dot] || trimmed.suffix(2) == [slash, dot] || trimmed.last == slash {
      base = SharedFD(try Sys.openat(Sys.currentDirectory, path, [.readOnly, .directory]))
      name = nil
      return
    }
    let cut = trimmed.lastIndex(of: slash)
    let last = Array(trimmed[(cut.map { $0 + 1 } ?? 0)...])
    trimmed = cut.map { $0 == 0 ? [slash] : Array(trimmed[..<$0]) } ?? [dot]
    base = SharedFD(try Sys.openat(Sys.currentDirectory, trimmed, [.readOnly, .directory]))
    guard last != [dot, dot] else { throw .invalidArgument }
    _ = try Sys.statx(base.rawValue, last, fields: .type)
    name = last
  }
}

/// A file of a source, and where it goes.
struct Item: Sendable {
  /// The source it is part of.
  let source: MigrationSource
  /// The directory it is in.
  let folder: SharedFD
  let name: [UInt8]
  /// Names from the source's `base` to `folder`.
  let place: [[UInt8]]
  /// The path from the source on, for rules and messages.
  let path: [UInt8]
  let status: FileStatus
  /// Where it goes.
  let directory: any Receiver
}

/// Joins a path and a name.
func joined(_ path: [UInt8], _ name: [UInt8]) -> [UInt8] {
  path.isEmpty ? name : path + [UInt8(ascii: "/")] + name
}

/// Opens a directory below another one, following no links.
func openFolder(_ base: SharedFD, _ place: [[UInt8]]) throws(TransferError) -> SharedFD {
  var folder = base
  for name in place {
    folder = try attempting("opening a directory") { () throws(Errno) in
      SharedFD(try Sys.openat(folder.rawValue, name, [.readOnly, .directory, .noFollow]))
    }
  }
  return folder
}
