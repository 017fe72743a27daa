/// Names and numbers of docs/format.md; the section is given at each.
enum Format {
  // §2
  static let headerName = bytes("scrim.vault")
  static let newHeaderName = bytes("scrim.vault.new")
  static let sessionName = bytes("scrim.session")
  static let lockName = bytes("scrim.lock")
  static let treeName = bytes("tree")
  static let rekeyText = "scrim.rekey"
  static let rekeyName = bytes("scrim.rekey")
  static let successorName = bytes("scrim.successor")
  static let successorInfo = bytes("scrim rekey")
  static let newRekeyText = "scrim.rekey.new"
  static let newRekeyName = bytes("scrim.rekey.new")
  static let reservedPrefix = bytes(".scrim-")

  // §4
  static let headerMagic = bytes("SCRIMVLT")
  static let version: UInt16 = 1
  static let vaultIDCount = 16
  static let maximumSlots = 64
  static let maximumHeader = 32 + 64 * (109 + 64) + 32
  static let slotInfo = bytes("scrim slot")
  static let masterKeyCount = 32

  // §5
  static let recordMagic = bytes("SCRIMDIR")
  static let recordName = bytes(".scrim-dir")
  static let newRecordName = bytes(".scrim-dir.new")
  static let recordAttribute = bytes("user.scrim.dir")
  static let temporaryPrefix = bytes(".scrim-new.")
  static let maximumRules = 32
  static let maximumRecord = 36 + 32 + 2 * 16 + 32 * (2 + 255)

  // §6
  static let maximumName = 255
  static let namePadding = 16
  static let longPrefix = UInt8(ascii: "~")
  static let plainLongPrefix = bytes(".scrim-h.")
  static let plainEscape = bytes(".scrim-n.")
  static let plainContainerSuffix = bytes(".scrim-c")
  static let plainLinkSuffix = bytes(".scrim-l")
  static let sidecarSuffix = bytes(".n")
  /// Length of base64url of a SHA-256.
  static let hashCount = 43

  // §7
  static let sealedTargetPrefix = bytes(".scrim-l.")
  static let maximumTarget = 4095

  // §8.7
  static let hintAttribute = bytes("user.scrim.hint")
  static let hintData = bytes("scrim hint")

  // §9
  static let sealedAttributeInfix = bytes("scrim.x.")
  static let systemAttributePrefix = bytes("system.")
  static let ownAttributePrefix = bytes("user.scrim.")

  // §10
  static let sessionMagic = bytes("SCRIMSES")
  static let pageCount = 4096
  static let maximumWindows = 64

  static func bytes(_ text: StaticString) -> [UInt8] {
    text.withUTF8Buffer { [UInt8]($0) }
  }
}

/// The HKDF labels of §3, each used once.
enum KeyLabel: String {
  case headerMAC = "scrim header mac"
  case names = "scrim names"
  case records = "scrim records"
  case bindings = "scrim bindings"
  case links = "scrim links"
  case content = "scrim content"
  case hints = "scrim hints"
  case attributes = "scrim attributes"
  case attributeNames = "scrim attribute names"
  case sessions = "scrim sessions"
}
