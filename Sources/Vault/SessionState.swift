import Primitives
import SystemPackage

/// A span of time in which a session that ended uncleanly may have been writing, in Unix
/// nanoseconds; of joined ones, several.
public struct UncleanWindow: Sendable, Equatable {
  /// The first moment.
  public var start: Int64
  /// The last moment.
  public var end: Int64
  /// The numbers of the sessions.
  public var sessions: ClosedRange<UInt64>

  /// The kernel stamps inodes with a clock that lags the precise one, and clocks are set.
  static let grace: Int64 = 2_000_000_000

  /// Whether an inode last changed at this time may hold a torn commit.
  func excuses(_ time: TimeSpec) -> Bool {
    guard let moment = time.unixNanoseconds else { return false }
    return moment >= max(start, Int64.min + UncleanWindow.grace) - UncleanWindow.grace
      && moment <= end
  }
}

extension TimeSpec {
  /// Unix nanoseconds, as far as they fit.
  var unixNanoseconds: Int64? {
    let (moment, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? nil : moment &+ Int64(nanoseconds)
  }
}

/// What `scrim.session` holds (format §10).
struct SessionState: Equatable {
  var serial: UInt64
  var session: UInt64
  var isOpen: Bool
  var start: Int64
  var windows: [UncleanWindow]

  /// A page of the session file.
  func sealed(with keys: MasterKeys) throws(VaultError) -> [UInt8] {
    precondition(windows.count <= Format.maximumWindows, "a session has at most 64 windows")
    var body = ByteWriter(capacity: Format.pageCount - 36)
    body.write(serial)
    body.write(session)
    body.write(UInt8(isOpen ? 1 : 0))
    body.write(UInt8(windows.count))
    body.writeZeros(6)
    body.write(start)
    for window in windows {
      body.write(window.start)
      body.write(window.end)
      body.write(window.sessions.lowerBound)
      body.write(window.sessions.upperBound)
    }
    body.writeZeros(Format.pageCount - 36 - body.bytes.count)
    do {
      let parts = try keys.sessions.seal(
        body.bytes, associatedData: Format.sessionMagic + keys.vaultID)
      return Format.sessionMagic + parts.nonce + parts.tag + parts.body
    } catch {
      throw .system(.noMemory, "sealing the session state")
    }
  }

  init(serial: UInt64, session: UInt64, isOpen: Bool, start: Int64, windows: [UncleanWindow]) {
    self.serial = serial
    self.session = session
    self.isOpen = isOpen
    self.start = start
    self.windows = windows
  }

  /// Opens one page; nil if it is not one this vault made.
  init?(opening page: [UInt8], with keys: MasterKeys) {
    guard page.count == Format.pageCount, Array(page[..<8]) == Format.sessionMagic else {
      return nil
    }
    let parts = Sealer.Parts(
      nonce: Array(page[8..<20]), tag: Array(page[20..<36]), body: Array(page[36...]))
    guard
      let body = try? keys.sessions.open(
        parts, associatedData: Format.sessionMagic + keys.vaultID),
      let state = try? body.withByteReader({ reader throws(CodecError) in
        try SessionState(from: &reader)
      })
    else { return nil }
    self = state
  }

  private init?(from reader: inout ByteReader) throws(CodecError) {
    serial = try reader.readUInt64()
    session = try reader.readUInt64()
    let state = try reader.readUInt8()
    let count = Int(try reader.readUInt8())
    let zeros = try reader.readArray(6)
    start = try reader.readInt64()
    guard state <= 1, count <= Format.maximumWindows, zeros.allSatisfy({ $0 == 0 }) else {
      return nil
    }
    isOpen = state == 1
    windows = []
    for _ in 0..<count {
      let (start, end) = (try reader.readInt64(), try reader.readInt64())
      let (first, last) = (try reader.readUInt64(), try reader.readUInt64())
      guard first <= last else { return nil }
      windows.append(UncleanWindow(start: start, end: end, sessions: first...last))
    }
    try reader.finishZeroPadded()
  }

  /// The window of this session, if it ends uncleanly.
  func window(until now: Int64) -> UncleanWindow {
    UncleanWindow(start: min(start, now), end: max(start, now), sessions: session...session)
  }

  /// Adds a window, joining the two oldest when there are too many.
  mutating func add(_ window: UncleanWindow) {
    windows.append(window)
    while windows.count > Format.maximumWindows {
      let oldest = windows.removeFirst()
      windows[0].start = min(windows[0].start, oldest.start)
      windows[0].end = max(windows[0].end, oldest.end)
      let (one, other) = (windows[0].sessions, oldest.sessions)
      windows[0].sessions =
        min(one.lowerBound, other.lowerBound)...max(one.upperBound, other.upperBound)
    }
  }
}
