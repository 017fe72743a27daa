import Primitives
import SystemPackage

/// A container's size where one call reads it without opening the container (format §8.7).
struct SizeHint: Equatable {
  /// Logical size in bytes.
  var size: UInt64
  /// Length of the backing file in bytes when the hint was made.
  var backingLength: UInt64
  /// The commit it describes.
  var commit: UInt64

  static let count = 52

  /// Bound to the inode: moved to another file of the same length it must not open.
  private static func associatedData(_ inode: UInt64) -> [UInt8] {
    var writer = ByteWriter(capacity: 18)
    writer.write(Format.hintData)
    writer.write(inode)
    return writer.bytes
  }

  func sealed(with keys: MasterKeys, inode: UInt64) throws(VaultError) -> [UInt8] {
    var writer = ByteWriter(capacity: 24)
    writer.write(size)
    writer.write(backingLength)
    writer.write(commit)
    do {
      let parts = try keys.hints.seal(
        writer.bytes, associatedData: SizeHint.associatedData(inode))
      return parts.nonce + parts.body + parts.tag
    } catch {
      throw .system(.noMemory, "sealing a size hint")
    }
  }

  init(size: UInt64, backingLength: UInt64, commit: UInt64) {
    self.size = size
    self.backingLength = backingLength
    self.commit = commit
  }

  /// Opens a stored hint; nil if it is not one this vault made.
  init?(opening bytes: [UInt8], with keys: MasterKeys, inode: UInt64) {
    guard bytes.count == SizeHint.count else { return nil }
    let parts = Sealer.Parts(
      nonce: Array(bytes[..<12]), tag: Array(bytes[36...]), body: Array(bytes[12..<36]))
    guard
      let body = try? keys.hints.open(parts, associatedData: SizeHint.associatedData(inode)),
      let hint = try? body.withByteReader({ reader throws(CodecError) in
        SizeHint(
          size: try reader.readUInt64(), backingLength: try reader.readUInt64(),
          commit: try reader.readUInt64())
      })
    else { return nil }
    self = hint
  }
}
