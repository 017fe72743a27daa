import CLinux
import Glibc
import SystemPackage

/// Descriptors that came with a message; closed when this goes.
public struct ReceivedDescriptors: ~Copyable {
  private let raw: [Int32]

  /// Takes over open descriptors.
  init(_ raw: [Int32]) { self.raw = raw }

  deinit { for descriptor in raw { close(descriptor) } }

  /// How many there are.
  public var count: Int { raw.count }

  /// One of them, which stays owned by this.
  public subscript(_ index: Int) -> Int32 { raw[index] }
}

/// One end of the socket between a mount and its broker; closed when this goes.
public struct BrokerChannel: ~Copyable {
  /// Where the broker finds its end.
  public static let inheritedDescriptor: Int32 = 3

  /// The socket, for poll(2).
  public let descriptor: Int32

  /// Takes over a connected SOCK_SEQPACKET socket.
  public init(descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// Sends a message with descriptors, which stay the caller's.
  ///
  /// - Throws: The call's error; `.brokenPipe` when the other side is gone.
  public func send(_ message: BrokerMessage, _ descriptors: [Int32] = []) throws(Errno) {
    var words = (message.kind, UInt32(bitPattern: message.value))
    // SAFETY: two 32-bit words are the 8 bytes sent, and the array is lent for the call.
    let result = withUnsafeBytes(of: &words) { bytes in
      scrim_send_message(
        descriptor, bytes.baseAddress, BrokerMessage.size, descriptors, descriptors.count)
    }
    guard result == 0 else { throw Errno(rawValue: -result) }
  }

  /// The next message with its descriptors, or nil when the other side is gone.
  ///
  /// - Throws: `.messageTooLong` for anything that is not 8 bytes with at most four descriptors, which are closed.
  public func receive() throws(Errno) -> BrokerReceipt? {
    var words: (UInt32, UInt32) = (0, 0)
    var raw = [Int32](repeating: -1, count: Int(SCRIM_MOST_DESCRIPTORS))
    var count = 0
    // SAFETY: the call writes at most 8 bytes and SCRIM_MOST_DESCRIPTORS numbers, the room that is there.
    let length = withUnsafeMutableBytes(of: &words) { bytes in
      scrim_receive_message(
        descriptor, bytes.baseAddress, BrokerMessage.size, &raw, &count)
    }
    let descriptors = ReceivedDescriptors(Array(raw.prefix(count)))
    guard length >= 0 else { throw Errno(rawValue: Int32(-length)) }
    guard length > 0 else { return nil }
    guard length == BrokerMessage.size else { throw .messageTooLong }
    let message = BrokerMessage(kind: words.0, value: Int32(bitPattern: words.1))
    return BrokerReceipt(message: message, descriptors: descriptors)
  }
}

/// A message as it arrived.
public struct BrokerReceipt: ~Copyable {
  /// What it says.
  public let message: BrokerMessage
  /// What came with it.
  public let descriptors: ReceivedDescriptors

  /// Hands over what came with it.
  public consuming func takeDescriptors() -> ReceivedDescriptors { descriptors }
}
