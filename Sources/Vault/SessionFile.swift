import Primitives
import Synchronization
import SystemPackage

/// The session of one opening of a vault: says which writer made a commit, and for which times
/// torn commits are excused (format §10).
final class SessionFile: Sendable {
  /// Number of this session; of the last one for a reader.
  let number: UInt64
  /// When torn commits are excused.
  let windows: [UncleanWindow]
  /// The numbers of the sessions in the windows.
  let uncleanSessions: [ClosedRange<UInt64>]

  /// When this session began, in Unix nanoseconds.
  let start: Int64

  private struct Current {
    var state: SessionState
    /// The page the state is in.
    var page: Int
  }

  private let keys: MasterKeys
  /// nil when the vault is only read.
  private let descriptor: SharedFD?
  private let current: Mutex<Current>

  /// Writes the first state of a new vault: clean, no session yet. The file gets its full size, so
  /// that later changes need no space.
  static func create(
    in vault: Int32, keys: MasterKeys, session: UInt64 = 0
  ) throws(VaultError) {
    let descriptor = try attempt("creating scrim.session") { () throws(Errno) in
      try Sys.openat(
        vault, Format.sessionName, [.readWrite, .create, .exclusive, .noFollow], mode: 0o600)
    }
    let state = SessionState(serial: 1, session: session, isOpen: false, start: 0, windows: [])
    let page = try state.sealed(with: keys)
    // Both pages are written, not allocated: rewriting an allocated but unwritten extent can still
    // need space for metadata.
    do throws(VaultError) {
      for index in 0...1 { try write(page, index, descriptor.rawValue) }
    } catch {
      try? Sys.unlinkat(vault, Format.sessionName)
      throw error
    }
  }

  /// A vault without its session file has been tampered with: only making it and repair write a
  /// new one.
  private static func open(in vault: Int32, _ access: OpenFlags) throws(VaultError) -> OwnedFD {
    do throws(Errno) {
      let file = try Sys.openatWary(vault, Format.sessionName, access)
      if try Sys.fstatx(file.rawValue, fields: .type).kind == .regular { return file }
    } catch .noSuchFileOrDirectory {
      throw .damaged("scrim.session is missing; scrim check --repair makes a new one")
    } catch .tooManySymbolicLinkLevels, .isDirectory, .noSuchAddressOrDevice {
      // Something else has its name.
    } catch {
      throw .system(error, "opening scrim.session")
    }
    throw .damaged("scrim.session is not a file; scrim check --repair makes a new one")
  }

  /// Opens a session for writing; a state found open becomes an unclean window.
  static func begin(in vault: Int32, keys: MasterKeys) throws(VaultError) -> SessionFile {
    let descriptor = SharedFD(try open(in: vault, .readWrite))
    var current = try load(descriptor.rawValue, keys)
    let now = SessionFile.now()
    if current.state.isOpen {
      current.state.add(current.state.window(until: now))
      try attempt("syncing the vault's filesystem") { () throws(Errno) in try Sys.syncfs(vault) }
    }
    current.state.session = max(
      current.state.session &+ 1, UInt64(max(0, now / 1_000_000_000)))
    current.state.isOpen = true
    current.state.start = now
    try store(&current, descriptor.rawValue, keys)
    return SessionFile(
      current, number: current.state.session, windows: current.state.windows, keys: keys,
      descriptor: descriptor)
  }

  /// Looks at the state without changing it.
  static func observe(in vault: Int32, keys: MasterKeys) throws(VaultError) -> SessionFile {
    let descriptor = try open(in: vault, .readOnly)
    let current = try load(descriptor.rawValue, keys)
    var windows = current.state.windows
    if current.state.isOpen {
      windows.append(current.state.window(until: now()))
    }
    return SessionFile(
      current, number: current.state.session, windows: windows, keys: keys, descriptor: nil)
  }

  /// For a reader of a vault whose session state is lost: nothing is excused.
  static func unknown(keys: MasterKeys) -> SessionFile {
    let state = SessionState(serial: 0, session: 0, isOpen: false, start: 0, windows: [])
    return SessionFile(
      Current(state: state, page: 0), number: 0, windows: [], keys: keys, descriptor: nil)
  }

  private init(
    _ current: consuming Current, number: UInt64, windows: [UncleanWindow], keys: MasterKeys,
    descriptor: SharedFD?
  ) {
    self.number = number
    self.windows = windows
    uncleanSessions = windows.map(\.sessions)
    start = current.state.start
    self.keys = keys
    self.descriptor = descriptor
    self.current = Mutex(current)
  }

  /// Marks the session clean; the caller has synced everything before.
  func end() throws(VaultError) {
    guard let descriptor else { return }
    // Typed throws does not pass through Mutex, so the outcome does.
    let outcome = current.withLock { current -> Result<Void, VaultError> in
      guard current.state.isOpen else { return .success(()) }
      var next = current
      next.state.isOpen = false
      do throws(VaultError) {
        try SessionFile.store(&next, descriptor.rawValue, keys)
        current = next
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try outcome.get()
  }

  /// Whether what last changed at this time was left by an earlier session.
  func isPredated(by changeTime: TimeSpec) -> Bool {
    guard let moment = changeTime.unixNanoseconds else { return false }
    return moment < start - UncleanWindow.grace
  }

  private static func load(
    _ descriptor: Int32, _ keys: MasterKeys
  ) throws(VaultError) -> Current {
    var best: Current?
    for index in 0...1 {
      guard let page = try read(index, descriptor),
        let state = SessionState(opening: page, with: keys)
      else { continue }
      if let known = best, known.state.serial >= state.serial { continue }
      best = Current(state: state, page: index)
    }
    guard let best else {
      throw .damaged("scrim.session holds no valid state")
    }
    return best
  }

  private static func read(_ page: Int, _ descriptor: Int32) throws(VaultError) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: Format.pageCount)
    let count = try attempt("reading scrim.session") { () throws(Errno) in
      try bytes.withUnsafeMutableBytesTyped { (buffer) throws(Errno) in
        try Sys.pread(descriptor, buffer, at: Int64(page * Format.pageCount))
      }
    }
    return count == Format.pageCount ? bytes : nil
  }

  /// Writes the state to the other page; a torn write leaves the present one.
  private static func store(
    _ current: inout Current, _ descriptor: Int32, _ keys: MasterKeys
  ) throws(VaultError) {
    current.state.serial &+= 1
    current.page = 1 - current.page
    try write(try current.state.sealed(with: keys), current.page, descriptor)
  }

  private static func write(
    _ page: [UInt8], _ index: Int, _ descriptor: Int32
  ) throws(VaultError) {
    try attempt("writing scrim.session") { () throws(Errno) in
      try page.withUnsafeBytesTyped { (buffer) throws(Errno) in
        try Sys.pwrite(descriptor, buffer, at: Int64(index * Format.pageCount))
      }
      try Sys.fdatasync(descriptor)
    }
  }

  private static func now() -> Int64 {
    let time = Sys.realtime()
    return time.seconds &* 1_000_000_000 &+ Int64(time.nanoseconds)
  }
}

extension [UInt8] {
  /// `withUnsafeBytes` that keeps the error's type.
  func withUnsafeBytesTyped<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    let result = withUnsafeBytes { buffer -> Result<R, E> in
      do throws(E) { return .success(try body(buffer)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  /// `withUnsafeMutableBytes` that keeps the error's type.
  mutating func withUnsafeMutableBytesTyped<R, E: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    let result = withUnsafeMutableBytes { buffer -> Result<R, E> in
      do throws(E) { return .success(try body(buffer)) } catch { return .failure(error) }
    }
    return try result.get()
  }
}
