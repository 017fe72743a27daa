import Glibc
import Primitives
public import SystemCallSeam
import SystemPackage

/// What sees the system calls of a thread.
public protocol CallWatcher: AnyObject {
  /// Before a call is made.
  ///
  /// - Returns: What it fails with; nil lets it happen.
  func before(_ call: borrowing WatchedCall) -> Errno?

  /// After a call that succeeded.
  func after(_ call: borrowing WatchedCall, result: Int64)
}

/// A system call of the code under test, valid while its watcher hears of it.
public struct WatchedCall: ~Copyable {
  fileprivate let raw: UnsafePointer<seam_call>

  /// What is called.
  public var kind: seam_kind { raw.pointee.kind }
  /// The file, or where the name starts.
  public var descriptor: Int32 { raw.pointee.descriptor }
  /// Where the other name starts.
  public var otherDescriptor: Int32 { raw.pointee.other_descriptor }
  /// The name, or a path.
  public var name: [UInt8] { WatchedCall.text(raw.pointee.path) }
  /// The other name of a rename or link.
  public var otherName: [UInt8] { WatchedCall.text(raw.pointee.other_path) }
  /// The name of an extended attribute.
  public var attribute: [UInt8] { WatchedCall.text(raw.pointee.name) }
  /// An offset, or a new length.
  public var offset: Int64 { raw.pointee.offset }
  /// How many bytes.
  public var count: Int { raw.pointee.count }
  /// Flags as the call takes them.
  public var flags: Int32 { raw.pointee.flags }
  /// File type and permissions of what is made.
  public var mode: UInt32 { raw.pointee.mode }

  /// The bytes written, of an attribute's value, or of a link's target.
  public var bytes: [UInt8] {
    [UInt8](UnsafeRawBufferPointer(start: raw.pointee.bytes, count: raw.pointee.count))
  }

  private static func text(_ start: UnsafePointer<CChar>?) -> [UInt8] {
    guard let start else { return [] }
    return [UInt8](UnsafeRawBufferPointer(start: start, count: strlen(start)))
  }
}

private final class WatcherBox {
  let watcher: any CallWatcher

  init(_ watcher: any CallWatcher) {
    self.watcher = watcher
  }

  static func of(_ context: UnsafeMutableRawPointer?) -> any CallWatcher {
    guard let context else { preconditionFailure("a watched thread has a watcher") }
    return Unmanaged<WatcherBox>.fromOpaque(context).takeUnretainedValue().watcher
  }
}

/// Runs something on this thread while a watcher sees its system calls.
public func watchingCalls<R>(_ watcher: any CallWatcher, _ body: () throws -> R) rethrows -> R {
  let box = WatcherBox(watcher)
  let hooks = seam(
    context: Unmanaged.passUnretained(box).toOpaque(),
    before: { context, call in
      guard let call else { return 0 }
      return WatcherBox.of(context).before(WatchedCall(raw: call))?.rawValue ?? 0
    },
    after: { context, call, result in
      guard let call else { return }
      WatcherBox.of(context).after(WatchedCall(raw: call), result: result)
    })
  // SAFETY: the thread stops looking at both before they go.
  return try withUnsafePointer(to: hooks) { pointer in
    seam_watch(pointer)
    defer {
      seam_watch(nil)
      withExtendedLifetime(box) {}
    }
    return try body()
  }
}

/// Counts system calls and lets some of them fail.
public final class CallFaults: CallWatcher {
  private let first: Int
  private let error: Errno
  private let isLasting: Bool
  /// How many calls there were.
  public private(set) var calls = 0
  /// What the call was that failed first.
  public private(set) var failed: seam_kind?

  /// Describes what fails.
  ///
  /// - Parameters:
  ///   - first: Number of the call that fails, from 0.
  ///   - error: The error.
  ///   - isLasting: Whether every call after it that changes something fails, too.
  public init(failing first: Int, with error: Errno, isLasting: Bool = false) {
    self.first = first
    self.error = error
    self.isLasting = isLasting
  }

  /// Fails the call if it is its turn.
  public func before(_ call: borrowing WatchedCall) -> Errno? {
    defer { calls += 1 }
    guard calls == first || (isLasting && calls > first && CallFaults.changes(call)) else {
      return nil
    }
    if failed == nil { failed = call.kind }
    return error
  }

  /// Nothing.
  public func after(_ call: borrowing WatchedCall, result: Int64) {}

  private static func changes(_ call: borrowing WatchedCall) -> Bool {
    switch call.kind {
    case seam_status, seam_readlink, seam_get_attribute, seam_list_attributes, seam_read,
      seam_list_directory:
      false
    case seam_open: call.flags & O_CREAT != 0
    default: true
    }
  }
}
