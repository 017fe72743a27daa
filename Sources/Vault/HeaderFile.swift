import Primitives
import SystemPackage

/// Reading and replacing `scrim.vault` (format §4).
enum HeaderFile {
  static func load(in vault: Int32) throws(VaultError) -> VaultHeader {
    let bytes: [UInt8]
    do {
      let descriptor = try Sys.openatWary(vault, Format.headerName, .readOnly)
      bytes = try readWhole(descriptor.rawValue, limit: Format.maximumHeader + 1)
    } catch .noSuchFileOrDirectory {
      throw .notAVault("there is no scrim.vault")
    } catch {
      throw .system(error, "reading scrim.vault")
    }
    return try VaultHeader(parsing: bytes)
  }

  /// Replaces the header so that at any moment one of the two is complete.
  static func store(
    _ header: VaultHeader, keys: MasterKeys, in vault: Int32, replacing: Bool
  ) throws(VaultError) {
    let bytes = header.serialized(with: keys)
    try attempt("writing scrim.vault") { () throws(Errno) in
      let descriptor = try Sys.openatWary(
        vault, Format.newHeaderName, [.writeOnly, .create, .truncate], mode: 0o600)
      do throws(Errno) {
        try bytes.withUnsafeBytesTyped { (buffer) throws(Errno) in
          try Sys.pwrite(descriptor.rawValue, buffer, at: 0)
        }
        if replacing { try keepOwner(vault, descriptor.rawValue) }
        try Sys.fsync(descriptor.rawValue)
        if replacing {
          try Sys.renameat2(vault, Format.newHeaderName, vault, Format.headerName)
        } else {
          try renameToNew(vault, Format.newHeaderName, vault, Format.headerName)
        }
      } catch {
        try? Sys.unlinkat(vault, Format.newHeaderName)
        throw error
      }
      try Sys.fsync(vault)
    }
  }

  /// What root changes in a user's vault is to stay that user's.
  private static func keepOwner(_ vault: Int32, _ new: Int32) throws(Errno) {
    let old = try Sys.statx(vault, Format.headerName, fields: .basic)
    let present = try Sys.fstatx(new, fields: .basic)
    guard old.uid != present.uid || old.gid != present.gid, Sys.effectiveUserID == 0 else { return }
    try Sys.fchownat(new, uid: old.uid, gid: old.gid)
  }
}

/// renameat2(2) with RENAME_NOREPLACE. Where the backing filesystem cannot refuse to replace, it looks first; the vault has
/// no other writer.
func renameToNew(
  _ from: Int32, _ old: [UInt8], _ to: Int32, _ new: [UInt8]
) throws(Errno) {
  do throws(Errno) {
    try Sys.renameat2(from, old, to, new, flags: .noReplace)
  } catch .invalidArgument {
    if (try? Sys.statx(to, new, fields: .type)) != nil { throw .fileExists }
    try Sys.renameat2(from, old, to, new)
  }
}

/// Reads a file from its start, at most `limit` bytes of it.
func readWhole(_ descriptor: Int32, limit: Int) throws(Errno) -> [UInt8] {
  let size = Int(clamping: try Sys.fstatx(descriptor, fields: .size).size)
  var bytes = [UInt8](repeating: 0, count: min(size, limit))
  let count = try bytes.withUnsafeMutableBytesTyped { (buffer) throws(Errno) in
    try Sys.pread(descriptor, buffer, at: 0)
  }
  bytes.removeLast(bytes.count - count)
  return bytes
}
