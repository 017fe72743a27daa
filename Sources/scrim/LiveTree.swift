import Glibc
import Primitives
import SystemPackage

/// Something in a mounted vault that a command was given.
struct LivePlace {
  /// The directory it is in, or it is itself; open for reading.
  let folder: SharedFD
  /// Its name there; nil for the directory itself.
  let name: [UInt8]?
  /// As it was given, without slashes at the end.
  let path: [UInt8]

  /// Opens a path; nil if it is not in a mounted vault.
  ///
  /// - Throws: `Failure` if it does not exist or cannot be opened.
  static func open(_ path: PathArgument) throws(Failure) -> LivePlace? {
    let slash = UInt8(ascii: "/")
    var bytes = path.bytes
    while bytes.count > 1, bytes.last == slash { bytes.removeLast() }
    do throws(Errno) {
      let node = SharedFD(try Sys.openat(Sys.currentDirectory, bytes, [.path, .noFollow]))
      do throws(Failure) {
        guard try MountTable.isInScrimMount(node.rawValue) else { return nil }
      } catch {
        return nil
      }
      if try Sys.fstatx(node.rawValue, fields: .type).kind == .directory {
        let folder = SharedFD(try Sys.reopen(node.rawValue, [.readOnly, .directory]))
        return LivePlace(folder: folder, name: nil, path: bytes)
      }
      let cut = bytes.lastIndex(of: slash)
      let parent = cut.map { $0 == 0 ? [slash] : Array(bytes[..<$0]) } ?? [UInt8(ascii: ".")]
      let folder = SharedFD(
        try Sys.openat(Sys.currentDirectory, parent, [.readOnly, .directory]))
      let name = cut.map { Array(bytes[($0 + 1)...]) } ?? bytes
      return LivePlace(folder: folder, name: name, path: bytes)
    } catch {
      let code = error.rawValue
      throw Failure(
        MountAttribute.openFailure(code), "\(path.text): \(MountAttribute.openReason(code))")
    }
  }
}

/// What a walk through a mounted vault finds.
enum LiveEntry {
  /// A directory, before what is in it.
  case directory(SharedFD)
  /// Anything else.
  case file(folder: SharedFD, name: [UInt8], FileStatus)
  /// What cannot be looked at.
  case unreadable(Errno)
}

enum LiveTree {
  /// Goes through a directory, files first; links are not followed, and other filesystems not entered.
  ///
  /// - Parameters:
  ///   - folder: Where to begin.
  ///   - path: Its path.
  ///   - recursive: Whether to enter the directories in it.
  ///   - visit: Takes what is found, and its path; false ends the walk.
  /// - Returns: Whether it was gone through to its end.
  @discardableResult
  static func walk(
    _ folder: SharedFD, _ path: [UInt8], recursive: Bool,
    _ visit: ([UInt8], LiveEntry) throws -> Bool
  ) rethrows -> Bool {
    guard try visit(path, .directory(folder)) else { return false }
    let names: [[UInt8]]
    let device: UInt64
    do throws(Errno) {
      device = try Sys.fstatx(folder.rawValue).device
      names = try Sys.entries(of: folder.rawValue).map { $0.name }
    } catch {
      return try visit(path, .unreadable(error))
    }
    var folders: [[UInt8]] = []
    for name in names {
      let place = path + [UInt8(ascii: "/")] + name
      let status: FileStatus
      do throws(Errno) {
        status = try Sys.statx(folder.rawValue, name)
      } catch {
        guard try visit(place, .unreadable(error)) else { return false }
        continue
      }
      if status.kind == .directory {
        if recursive, status.device == device { folders.append(name) }
      } else {
        guard try visit(place, .file(folder: folder, name: name, status)) else { return false }
      }
    }
    // Last, so that what belongs to one directory is done in one go.
    for name in folders {
      let place = path + [UInt8(ascii: "/")] + name
      let inner: SharedFD
      do throws(Errno) {
        inner = SharedFD(
          try Sys.openat(folder.rawValue, name, [.readOnly, .directory, .noFollow]))
      } catch {
        guard try visit(place, .unreadable(error)) else { return false }
        continue
      }
      guard try walk(inner, place, recursive: true, visit) else { return false }
    }
    return true
  }
}
