import SystemPackage

/// What a mount asks of the broker.
public enum BrokerRequest: UInt32, Sendable {
  /// The first message. Descriptors: the vault's folder, and its `scrim.vault` open for reading.
  case greet = 1
  /// Makes a backing file known. Descriptors: the mount's /dev/fuse, and the backing file, open for reading and writing.
  case register = 2
  /// Takes a backing ID back, the message's value. Descriptor: the mount's /dev/fuse.
  case unregister = 3
}

/// What the broker says to a request.
public enum BrokerAnswer: UInt32, Sendable, CaseIterable {
  /// It is done; the value is the backing ID of a registration.
  case done = 0
  /// The kernel refused; the value is the error number.
  case systemError = 1
  /// The broker has no CAP_SYS_ADMIN to use.
  case noCapability = 2
  /// The folder is not that of a vault.
  case notAVault = 3
  /// The first descriptor is not that of a FUSE mount.
  case notFuse = 4
  /// The backing file is not a regular file.
  case notRegular = 5
  /// The backing file is not open for reading and writing, and writing anywhere in it.
  case notReadWrite = 6
  /// The backing file is not beneath the vault's folder.
  case outsideVault = 7
  /// No such request, at this point or with these descriptors.
  case malformed = 8
}

/// One message in either direction: 8 bytes in host order.
public struct BrokerMessage: Sendable, Equatable {
  /// Bytes of a message.
  public static let size = 8

  /// Raw value of the request or answer.
  public var kind: UInt32
  /// What belongs to it, else zero.
  public var value: Int32

  /// A message of a kind known by number only.
  public init(kind: UInt32, value: Int32 = 0) {
    self.kind = kind
    self.value = value
  }

  /// A request.
  public init(_ request: BrokerRequest, value: Int32 = 0) {
    self.init(kind: request.rawValue, value: value)
  }

  /// An answer.
  public init(_ answer: BrokerAnswer, value: Int32 = 0) {
    self.init(kind: answer.rawValue, value: value)
  }

  /// The kernel's refusal.
  public init(_ error: Errno) {
    self.init(.systemError, value: error.rawValue)
  }
}
