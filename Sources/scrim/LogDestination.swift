import Glibc
import Logging
import Synchronization

/// Where the daemon's log lines go.
enum LogDestination {
  case standardError
  case file(PathArgument)
  case system

  /// Where the lines of this process go, by what was asked for.
  ///
  /// - Parameters:
  ///   - foreground: Whether a terminal or a supervisor reads standard error.
  ///   - file: What `--log-file` says.
  init(foreground: Bool, file: PathArgument?) {
    if let file {
      self = .file(file)
    } else if foreground {
      self = .standardError
    } else if access("/dev/log", W_OK) == 0 {
      self = .system
    } else {
      // A container has no system log as a rule, and integrity failures must not go unheard.
      self = Self.stateFile().map { .file($0) } ?? .system
    }
  }

  /// `scrim/scrim.log` in the user's state directory (XDG Base Directory Specification).
  private static func stateFile() -> PathArgument? {
    let state = getenv("XDG_STATE_HOME").map { String(cString: $0) }
    let home = getenv("HOME").map { String(cString: $0) }
    guard let base = state ?? home.map({ $0 + "/.local/state" }), base.hasPrefix("/") else {
      return nil
    }
    let folder = base + "/scrim"
    for end in folder.indices.dropFirst() where folder[end] == "/" {
      mkdir(String(folder[..<end]), 0o700)
    }
    mkdir(folder, 0o700)
    guard access(folder, W_OK) == 0 else { return nil }
    return PathArgument(bytes: Array((folder + "/scrim.log").utf8))
  }

  /// Makes every logger of this process write there. Call it once, before any logger is made.
  func install(level: Logger.Level) throws(Failure) {
    switch self {
    case .standardError: break
    case .file(let path):
      let descriptor = open(path.terminated, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
      guard descriptor >= 0 else {
        throw Failure(
          .system, "the log file \(path.text) cannot be opened: \(Output.errnoText())")
      }
      // Crash messages of the runtime go there too.
      dup2(descriptor, STDERR_FILENO)
      close(descriptor)
    case .system:
      // The pointer is kept by the C library: a static string lives on.
      openlog(Self.identity.utf8Start, LOG_PID | LOG_NDELAY, LOG_DAEMON)
    }
    let toSystem = if case .system = self { true } else { false }
    LoggingSystem.bootstrap { label in
      LineLogHandler(label: label, toSystem: toSystem, logLevel: level)
    }
  }

  private static let identity: StaticString = "scrim"
}

/// Writes one line a message: time, level, text, then the metadata as key=value.
struct LineLogHandler: LogHandler {
  let label: String
  let toSystem: Bool
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    var text = Self.printable("\(event.message)")
    for (key, value) in metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 })
      .sorted(by: { $0.key < $1.key })
    {
      text += " \(key)=\(Self.printable("\(value)"))"
    }
    if toSystem {
      text.withCString { pointer in
        withVaList([pointer]) { vsyslog(Self.priority(event.level), "%s", $0) }
      }
    } else {
      let line = "\(Self.now()) \(event.level.rawValue.uppercased()) \(text)\n"
      // One write(2) a line, so that lines of several threads do not mix.
      Array(line.utf8).withUnsafeBytes { _ = Descriptor.writeAll(STDERR_FILENO, $0) }
    }
  }

  /// File names may hold line ends and terminal escapes; a log must not be forged with them.
  private static func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else {
      return text
    }
    return text.unicodeScalars.reduce(into: "") { safe, scalar in
      if scalar.value < 32 || scalar.value == 127 {
        safe += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
      } else {
        safe.unicodeScalars.append(scalar)
      }
    }
  }

  private static func priority(_ level: Logger.Level) -> Int32 {
    switch level {
    case .trace, .debug: LOG_DEBUG
    case .info: LOG_INFO
    case .notice: LOG_NOTICE
    case .warning: LOG_WARNING
    case .error: LOG_ERR
    case .critical: LOG_CRIT
    }
  }

  private static func now() -> String {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    var parts = tm()
    gmtime_r(&time.tv_sec, &parts)
    var text = [CChar](repeating: 0, count: 32)
    let length = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S", &parts)
    let date = String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let thousandths = String(time.tv_nsec / 1_000_000 + 1000).dropFirst()
    return "\(date).\(thousandths)Z"
  }
}
