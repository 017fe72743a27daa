import Container
import FoundationEssentials
import Glibc
import Primitives
import Vault

/// One line of `scrim ls -l`, one object of `scrim ls --json`.
struct ListedEntry: Encodable {
  private let name: String?
  private let nameBase64: String?
  private let type: String
  private let mode: String?
  private let size: UInt64
  private let permissions: String
  private let uid: UInt32
  private let gid: UInt32
  private let modified: Double

  private enum CodingKeys: CodingKey {
    case name, nameBase64, type, mode, size, permissions, uid, gid, modified
  }

  /// Takes over what is shown of an entry.
  ///
  /// - Parameters:
  ///   - entry: As looked up.
  ///   - path: The name, or the path below the root.
  ///   - size: Plain size in bytes.
  ///   - mode: How the content is stored, nil for what is no file.
  init(_ entry: VaultEntry, path: [UInt8], size: UInt64, mode: ContentPolicy?) {
    name = String(validating: path, as: UTF8.self)
    nameBase64 = name == nil ? Data(path).base64EncodedString() : nil
    type =
      switch entry.mode {
      case .plain, .container: "file"
      case .directory: "directory"
      case .symbolicLink, .longLink: "symlink"
      case .special: "special"
      }
    self.mode = mode?.name
    self.size = size
    permissions = String(entry.status.mode & 0o7777, radix: 8)
    uid = entry.status.uid
    gid = entry.status.gid
    modified =
      Double(entry.status.mtime.seconds) + Double(entry.status.mtime.nanoseconds) / 1_000_000_000
  }

  func encode(to encoder: any Encoder) throws {
    var object = encoder.container(keyedBy: CodingKeys.self)
    try object.encodeIfPresent(name, forKey: .name)
    try object.encodeIfPresent(nameBase64, forKey: .nameBase64)
    try object.encode(type, forKey: .type)
    // Null where there is none: the member is always there.
    try object.encode(mode, forKey: .mode)
    try object.encode(size, forKey: .size)
    try object.encode(permissions, forKey: .permissions)
    try object.encode(uid, forKey: .uid)
    try object.encode(gid, forKey: .gid)
    try object.encode(modified, forKey: .modified)
  }

  /// Everything but the name, with a blank at the end.
  var line: String {
    let letter = ["file": "-", "directory": "d", "symlink": "l"][type] ?? "s"
    return letter + permissions.leftPadded(to: 5) + "\(uid)".leftPadded(to: 7)
      + "\(gid)".leftPadded(to: 7) + "\(size)".leftPadded(to: 14) + "  " + date + "  "
      + (mode ?? "-").padded(to: 18)
  }

  private var date: String {
    var seconds = time_t(modified)
    var parts = tm()
    localtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 32)
    let length = strftime(&text, text.count, "%Y-%m-%d %H:%M", &parts)
    return String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
