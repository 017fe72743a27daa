import CFuse
import Glibc

/// Memory of one request's payload with room around it, page-aligned.
///
/// Handlers decrypt whole blocks: what a READ wants starts inside its first block and ends inside its last,
/// so a page of room before and after lets the plain bytes land where the reply needs them.
struct Payload {
  /// Bytes usable before `base` and after `base + capacity`.
  static let margin = 4096
  /// Room of the reply in bytes.
  static let capacity = Wire.maximumPayload

  private let mapping: UnsafeMutableRawPointer
  /// Where the reply's first byte belongs.
  let base: UnsafeMutableRawPointer

  /// Nil when the address space is exhausted. Pages are taken as they are first touched.
  init?() {
    let size = Self.capacity + 2 * Self.margin
    let memory = mmap(
      nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let memory, memory != MAP_FAILED else { return nil }
    // A fork would otherwise copy plaintext into the child, and a core dump would show it.
    madvise(memory, size, MADV_DONTDUMP)
    mapping = memory
    base = memory + Self.margin
  }

  /// Gives the memory back. `base` is dangling afterwards.
  func free() { munmap(mapping, Self.capacity + 2 * Self.margin) }
}

/// The state of one thread that handles requests; touched by that thread only.
final class Worker {
  let session: Session
  /// The raw request in hand, valid until its handler returns.
  private(set) var request = UnsafeRawBufferPointer(start: nil, count: 0)
  /// The request in hand, 0 for none.
  private(set) var unique: UInt64 = 0
  /// Whether the request in hand was answered.
  var replied = false
  /// The INIT request has not been answered yet and will be by this thread.
  var expectsInit = false
  /// The request in hand came as a STATX.
  private(set) var asksForBirth = false
  /// When the object of a STATX was made, if its handler knows.
  var birth: timespec?
  /// The ring entry that the request in hand came in, nil on the device.
  var entry: RingEntry?
  private var spare: Payload?

  init(session: Session) { self.session = session }

  deinit { spare?.free() }

  func begin(_ request: UnsafeRawBufferPointer) {
    self.request = request
    let head = RequestHead(request)
    unique = head?.unique ?? 0
    asksForBirth = head?.opcode == Wire.Opcode.statx
    if asksForBirth {
      birth = nil
      pass(request, as: Wire.Opcode.getattr)
    }
    // libfuse before 3.18 knows no TMPFILE. Its body and its reply are those of CREATE, and its name is "/",
    // which no CREATE has, so that is what it becomes.
    if head?.opcode == Wire.Opcode.temporaryFile { pass(request, as: Wire.Opcode.create) }
    replied = false
  }

  private func pass(_ request: UnsafeRawBufferPointer, as opcode: UInt32) {
    // SAFETY: the bytes lie in a buffer of the transport's own, which nobody else looks at meanwhile; a head was
    // read from them, so there are eight.
    UnsafeMutableRawBufferPointer(mutating: request).storeBytes(
      of: opcode, toByteOffset: 4, as: UInt32.self)
  }

  func end() {
    unique = 0
    request = UnsafeRawBufferPointer(start: nil, count: 0)
    entry = nil
  }

  /// Where the reply to the request in hand is best put, nil when memory is exhausted.
  func replyBase() -> UnsafeMutableRawPointer? {
    // A request whose own payload lies in the entry must not be overwritten by its reply.
    if let entry, !entry.holdsRequest { return entry.payload.base }
    if spare == nil { spare = Payload() }
    return spare?.base
  }

  private static let key: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key, nil)
    return key
  }()

  /// The worker of the calling thread, nil on a thread that does not serve.
  static var current: Worker? {
    guard let pointer = pthread_getspecific(key) else { return nil }
    // SAFETY: set by `serve` to an object that it keeps alive until it has cleared the slot.
    return Unmanaged<Worker>.fromOpaque(pointer).takeUnretainedValue()
  }

  /// Makes this the calling thread's worker while `body` runs.
  func serve(_ body: (Worker) -> Void) {
    pthread_setspecific(Self.key, Unmanaged.passUnretained(self).toOpaque())
    withExtendedLifetime(self) { body(self) }
    pthread_setspecific(Self.key, nil)
  }
}

/// What libfuse does not tell a handler about the request in hand on the calling thread.
public enum RequestContext {
  /// When the object of the GETATTR in hand was made: told to a caller who asks for it.
  public static var birth: timespec? {
    get { Worker.current?.birth }
    set { Worker.current?.birth = newValue }
  }

  /// Whether the request is about something that was opened, as the kernel may make it at any time for anybody.
  static var isOnHandle: Bool {
    guard let request = Worker.current?.request, let head = RequestHead(request) else {
      return false
    }
    return Wire.Opcode.onHandles.contains(head.opcode)
  }

  /// Whether the kernel asks this WRITE, SETATTR, OPEN or CREATE to strip suid and sgid.
  ///
  /// Only with HANDLE_KILLPRIV_V2 agreed (``Negotiated/handlesKillPrivileges``); then stripping on writes and
  /// truncations by unprivileged users is the filesystem's duty.
  public static var killsPrivileges: Bool {
    guard let request = Worker.current?.request, let head = RequestHead(request) else {
      return false
    }
    let body = Wire.requestHeaderSize
    func word(_ offset: Int) -> UInt32 {
      guard request.count >= body + offset + 4 else { return 0 }
      return request.loadUnaligned(fromByteOffset: body + offset, as: UInt32.self)
    }
    return switch head.opcode {
    case Wire.Opcode.write: word(20) & Wire.KillPrivileges.write != 0
    case Wire.Opcode.setattr: word(0) & Wire.KillPrivileges.setattr != 0
    case Wire.Opcode.open: word(4) & Wire.KillPrivileges.open != 0
    case Wire.Opcode.create: word(12) & Wire.KillPrivileges.open != 0
    default: false
    }
  }
}
