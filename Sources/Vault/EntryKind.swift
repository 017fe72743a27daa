public import Primitives

/// How an entry is stored; part of what authenticates a sealed name (format §6).
public enum EntryKind: UInt8, Sendable, CaseIterable {
  /// A directory or symbolic link; under sealed names also a container; under plain names also a
  /// plain file or special file.
  case primary = 0
  /// A container in a directory with plain names.
  case container = 1
  /// A plain file in a directory with sealed names.
  case plain = 2
  /// A FIFO, socket or device in a directory with sealed names.
  case special = 3
  /// A container that holds a symbolic link's target.
  case longLink = 4

  /// What ends the backing name; nil where the policy does not use the kind.
  func suffix(_ policy: NamePolicy) -> [UInt8]? {
    switch (policy, self) {
    case (_, .primary): []
    case (.sealed, .plain): [UInt8(ascii: "."), UInt8(ascii: "p")]
    case (.sealed, .special): [UInt8(ascii: "."), UInt8(ascii: "s")]
    case (.sealed, .longLink): [UInt8(ascii: "."), UInt8(ascii: "l")]
    case (.sealed, .container): nil
    case (.plain, .container): Format.plainContainerSuffix
    case (.plain, .longLink): Format.plainLinkSuffix
    case (.plain, .plain), (.plain, .special): nil
    }
  }

  /// The kind under which something is stored.
  static func of(_ mode: InodeMode, names: NamePolicy) -> EntryKind {
    switch (mode, names) {
    case (.directory, _), (.symbolicLink, _), (.container, .sealed): .primary
    case (.plain, .plain), (.special, .plain): .primary
    case (.container, .plain): .container
    case (.plain, .sealed): .plain
    case (.special, .sealed): .special
    case (.longLink, _): .longLink
    }
  }
}

/// What an inode is to the mount; never changes while it is known under one nodeid.
public enum InodeMode: Sendable, Equatable {
  /// A file stored as it is.
  case plain
  /// A file stored in a container.
  case container
  /// A directory.
  case directory
  /// A symbolic link stored as one.
  case symbolicLink
  /// A symbolic link whose target is stored in a container.
  case longLink
  /// A FIFO, socket or device.
  case special
}

/// One entry of a directory, as it was when it was looked up.
public struct VaultEntry: Sendable {
  /// The plain name it was found by.
  public let name: [UInt8]
  /// How it is stored.
  public let kind: EntryKind
  /// What it is.
  public let mode: InodeMode
  /// Its name in the backing directory.
  public let backingName: [UInt8]
  /// The backing inode's status; for containers and links size and blocks are those of the stored
  /// form: see `VaultDirectory.plainStatus`.
  public let status: FileStatus
  /// The directory ID and the name its stored form is bound to; they differ from the directory's
  /// ID and `name` only for what a synchronising tool renamed or brought along (format §11).
  let origin: EntryOrigin
  /// The backing inode, open with O_PATH, of an entry that is to outlive its name.
  public internal(set) var node: SharedFD? = nil

  /// The backing inode.
  public var identity: InodeIdentity { InodeIdentity(status) }

  /// Whether it may be found under other names, each of which its stored form has to be bound to.
  public var hasOtherNames: Bool {
    switch mode {
    case .container, .symbolicLink, .longLink: status.links > 1
    case .directory, .plain, .special: false
    }
  }
}

/// What a stored entry is bound to.
struct EntryOrigin: Sendable, Equatable {
  var directory: DirectoryID
  var name: [UInt8]
}
