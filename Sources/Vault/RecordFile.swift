import Container
import Primitives
import SystemPackage

/// A directory's record as file and attribute (format §5).
enum RecordFile {
  /// The stored records that open, whatever they are bound to; the file's first.
  static func load(_ directory: Int32, _ context: VaultContext) throws(VaultError) -> Stored {
    var stored = Stored()
    do {
      let file = try context.openForReading(directory, Format.recordName)
      let bytes = try readWhole(file.rawValue, limit: Format.maximumRecord + 1)
      stored.isPresent = true
      stored.add(bytes, context.keys)
    } catch .noSuchFileOrDirectory {
      // The attribute may still be there.
    } catch .tooManySymbolicLinkLevels, .isDirectory, .noSuchAddressOrDevice {
      stored.isPresent = true
    } catch {
      throw .system(error, "reading a directory's record")
    }
    do {
      let bytes = try Sys.getxattrPath(directory, Format.recordAttribute)
      stored.isPresent = true
      stored.add(bytes, context.keys)
    } catch Attributes.noData, .notSupported, .permissionDenied, .notPermitted {
      // The file has to do.
    } catch {
      // Perhaps it holds the newer record.
      throw .system(error, "reading a directory's record")
    }
    return stored
  }

  /// What was found in one directory.
  struct Stored {
    var records: [DirectoryRecord] = []
    /// Whether there was a record of any kind, even one that does not open.
    var isPresent = false

    fileprivate mutating func add(_ bytes: [UInt8], _ keys: MasterKeys) {
      guard let record = DirectoryRecord(opening: bytes, with: keys) else { return }
      if !records.contains(record) { records.append(record) }
    }
  }

  /// Puts the attribute back as it was, after a record could not be stored as a whole.
  static func restoreAttribute(_ record: DirectoryRecord, keys: MasterKeys, in directory: Int32) {
    guard let bytes = try? record.sealed(with: keys) else { return }
    try? Sys.setxattrPath(directory, Format.recordAttribute, bytes)
  }

  /// Replaces a directory's record: the attribute, then the file.
  ///
  /// The attribute is journalled with what is done to the directory afterwards, so only without it
  /// must the file itself be synced for the same order to hold after a power cut.
  ///
  /// - Parameters:
  ///   - record: The new record.
  ///   - keys: The vault's keys.
  ///   - directory: May be open with O_PATH.
  ///   - durable: Whether the file must be synced in any case.
  /// - Returns: Whether the attribute was set, so that the backing filesystem keeps the order.
  /// - Throws: `.system`.
  @discardableResult
  static func store(
    _ record: DirectoryRecord, keys: MasterKeys, in directory: Int32, durable: Bool
  ) throws(VaultError) -> Bool {
    let bytes = try record.sealed(with: keys)
    var hasAttribute = true
    do {
      try Sys.setxattrPath(directory, Format.recordAttribute, bytes)
    } catch .permissionDenied {
      throw .system(.permissionDenied, "writing a directory's record")
    } catch .readOnlyFileSystem {
      throw .system(.readOnlyFileSystem, "writing a directory's record")
    } catch {
      // No attributes here, or no space for one this long: the file alone will do.
      hasAttribute = false
    }
    try attempt("writing a directory's record") { () throws(Errno) in
      let file = try Sys.openatWary(
        directory, Format.newRecordName, [.writeOnly, .create, .truncate], mode: 0o644)
      do throws(Errno) {
        try bytes.withUnsafeBytesTyped { (buffer) throws(Errno) in
          try Sys.pwrite(file.rawValue, buffer, at: 0)
        }
        if durable || !hasAttribute { try Sys.fdatasync(file.rawValue) }
        try Sys.renameat2(directory, Format.newRecordName, directory, Format.recordName)
      } catch {
        try? Sys.unlinkat(directory, Format.newRecordName)
        throw error
      }
    }
    return hasAttribute
  }
}
