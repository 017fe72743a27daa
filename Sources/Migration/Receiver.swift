public import Container
public import Primitives
import SystemPackage
public import Vault

/// A directory that a migration brings files into: one of a vault, or of a mount.
protocol Receiver: AnyObject, Sendable {
  /// What has a name there; nil if nothing has.
  func find(_ name: [UInt8]) throws(TransferError) -> Received?
  /// A directory in it.
  func enter(_ name: [UInt8]) throws(TransferError) -> any Receiver
  /// Makes a directory.
  func makeFolder(_ name: [UInt8], mode: UInt32) throws(TransferError) -> any Receiver
  /// How a new file of this name is stored.
  func policy(for name: [UInt8]) throws(TransferError) -> ContentPolicy
  /// Removes what a killed run has left.
  func removeLeftovers() throws(TransferError)

  /// The directory itself.
  func itself() throws(TransferError) -> ReceivedNode
  /// Anything in it.
  func node(_ name: [UInt8]) throws(TransferError) -> ReceivedNode
  /// The target of a symbolic link.
  func readLink(_ name: [UInt8]) throws(TransferError) -> [UInt8]
  /// Makes a symbolic link.
  func makeLink(_ name: [UInt8], target: [UInt8]) throws(TransferError)
  /// Makes a FIFO, socket or device.
  func makeNode(_ name: [UInt8], mode: UInt32, device: UInt64) throws(TransferError)

  /// Starts a file that has its name only when it is whole.
  func begin(_ name: [UInt8], _ policy: ContentPolicy) throws(TransferError) -> any ReceivedFile
  /// Moves a file into it that is to be plain.
  ///
  /// - Returns: false where it has to be copied.
  func adopt(_ item: Item, keepsSource: Bool) throws(TransferError) -> Bool
  /// Gives a file of another directory a name here, too.
  ///
  /// - Returns: false where it has to be copied.
  func link(_ first: any Receiver, _ other: [UInt8], as name: [UInt8]) throws(TransferError) -> Bool
  /// The content of a file that has `size` bytes; nil if it is no such file.
  func content(_ name: [UInt8], size: UInt64) throws(TransferError) -> (Content, SharedFD)?
  /// Brings what was made to the medium: of a vault everything, else what is in this directory.
  func sync() throws(TransferError)
  /// Whether `sync` of one directory is enough for all.
  var syncsEverything: Bool { get }
  /// Lets go of what is quickly had again.
  func rest()
}

/// What has a name in a receiver.
struct Received: Sendable {
  let kind: FileKind
  let identity: InodeIdentity
  let modified: TimeSpec
  /// nil where it cannot be told.
  let size: UInt64?
}

/// An inode of a receiver.
struct ReceivedNode: Sendable {
  let descriptor: SharedFD
  let target: Metadata.Target
}

/// A file on its way into a receiver.
protocol ReceivedFile: Sendable {
  /// What its content goes into.
  var content: Content { get }
  /// The file.
  var node: ReceivedNode { get }
  /// Stores what was written, but for bringing it to the medium.
  func commit(modified: TimeSpec) throws(TransferError)
  /// Gives it its name.
  func finish(replacing: Bool) throws(TransferError)
  /// Gives it up.
  func cancel()
}

/// Where a migration brings everything.
public struct MigrationDestination: Sendable {
  let root: any Receiver
  /// Directories that are left out of any source.
  let excluded: Set<InodeIdentity>
  /// The device on which files that are to be plain need no copy.
  let adoptingDevice: UInt64?

  /// A vault that is open for writing.
  public init(_ vault: Vault) {
    root = VaultReceiver(vault, vault.root)
    excluded = vault.folderIdentity.map { [$0] } ?? []
    adoptingDevice = vault.folderIdentity?.device
  }

  /// A mount of a vault.
  ///
  /// - Parameters:
  ///   - mount: A directory in it, open for reading.
  ///   - excluded: The mount's root, and the vault's folder where it is known.
  ///   - control: What system calls cannot do there.
  public init(mount: SharedFD, excluded: [FileStatus], control: MountControl) {
    root = MountReceiver(mount, [], control)
    self.excluded = Set(excluded.map(\.identity))
    adoptingDevice = nil
  }
}

/// What a mount is asked for besides system calls.
public struct MountControl: Sendable {
  /// How new files in a directory are stored: its policy, and the rules that come before it.
  public typealias Policies = (content: ContentPolicy, rules: [ContentRule])

  let policies: @Sendable (SharedFD) throws(TransferError) -> Policies
  let setMode: @Sendable (SharedFD, [UInt8], ContentPolicy) throws(TransferError) -> Void

  /// Joins both.
  ///
  /// - Parameters:
  ///   - policies: Asked once for each directory.
  ///   - setMode: Stores a file of a directory that is empty and not open in another mode.
  public init(
    policies: @escaping @Sendable (SharedFD) throws(TransferError) -> Policies,
    setMode: @escaping @Sendable (SharedFD, [UInt8], ContentPolicy) throws(TransferError) -> Void
  ) {
    self.policies = policies
    self.setMode = setMode
  }
}
