import Glibc

/// What is known of the terminal behind a descriptor.
enum Screen {
  /// Whether lines can be drawn over themselves there: on a terminal that takes back what was written.
  static func canDraw(_ descriptor: Int32) -> Bool {
    guard isatty(descriptor) == 1, let kind = getenv("TERM") else { return false }
    return !["", "dumb"].contains(String(cString: kind))
  }

  /// Rows and columns; nil where there is no terminal, or one that does not say.
  static func size(_ descriptor: Int32) -> (rows: Int, columns: Int)? {
    var size = winsize()
    guard isatty(descriptor) == 1, ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0,
      size.ws_col > 0, size.ws_row > 0
    else { return nil }
    return (Int(size.ws_row), Int(size.ws_col))
  }
}

/// Colours, which only ever repeat what a word says.
enum Colour: String {
  case red = "31"
  case green = "32"
  case yellow = "33"

  /// The text in this colour, on a terminal whose user has not asked for none (no-color.org).
  func paint(_ text: String, on descriptor: Int32 = STDOUT_FILENO) -> String {
    let isUnwanted = getenv("NO_COLOR").map { $0.pointee != 0 } ?? false
    guard !isUnwanted, Screen.canDraw(descriptor) else { return text }
    return "\u{1B}[\(rawValue)m\(text)\u{1B}[0m"
  }
}

/// A line on standard error that is drawn over itself while something goes on, and never wraps.
struct ProgressLine {
  private var isOpen = false

  static var isPossible: Bool { Screen.canDraw(STDERR_FILENO) }

  /// The columns a text may have: one is left for the cursor, which else goes to the next line on some terminals.
  static var room: Int { (Screen.size(STDERR_FILENO)?.columns ?? 80) - 1 }

  mutating func draw(_ text: String) {
    put("\r\u{1B}[K\(text.fitted(to: Self.room))")
    isOpen = true
  }

  /// Takes the line away.
  mutating func clear() {
    guard isOpen else { return }
    put("\r\u{1B}[K")
    isOpen = false
  }

  private func put(_ text: String) {
    Array(text.utf8).withUnsafeBytes { _ = Descriptor.writeAll(STDERR_FILENO, $0) }
  }
}

extension String {
  /// How many columns a terminal takes for it.
  var columns: Int { reduce(0) { $0 + $1.columns } }

  /// As much of the beginning as fits, with a sign where something is left out.
  func fitted(to width: Int) -> String {
    guard columns > width else { return self }
    return beginning(width - 1) + (width > 0 ? "…" : "")
  }

  /// Both ends where it does not fit: the end of a path tells more than its middle.
  func shortened(to width: Int) -> String {
    guard columns > width else { return self }
    let head = beginning(max(width - 3, 0) / 3)
    let tail = String(String(reversed()).beginning(width - 3 - head.columns).reversed())
    return width < 12 ? fitted(to: width) : "\(head) … \(tail)"
  }

  private func beginning(_ width: Int) -> String {
    var rest = width
    return String(
      prefix { character in
        rest -= character.columns
        return rest >= 0
      })
  }

  /// Lines of at most `width` columns, broken at blanks; those after the first begin with `indent` blanks, or fewer where a word
  /// needs the room. A word longer than a line stays whole, so that paths and commands can be copied.
  func wrapped(to width: Int?, indent: Int) -> String {
    guard let width, columns > width else { return self }
    var lines: [String] = []
    var line = ""
    var length = 0
    for (index, part) in split(separator: " ", omittingEmptySubsequences: false).enumerated() {
      let word = String(part)
      let needed = word.columns
      if index > 0, length + 1 + needed > width, needed + 2 <= width {
        lines.append(line)
        length = min(indent, width - needed)
        line = String(repeating: " ", count: length)
      } else if index > 0 {
        line += " "
        length += 1
      }
      line += word
      length += needed
    }
    return (lines + [line]).map { line in
      String(line.reversed().drop { $0 == " " }.reversed())
    }.joined(separator: "\n")
  }
}

extension Character {
  /// Columns on a terminal: two for what is as wide as it is high, none for what goes on top of another.
  fileprivate var columns: Int { unicodeScalars.map(\.columns).max() ?? 0 }
}

extension Unicode.Scalar {
  /// East Asian wide characters and emoji (Unicode TR 11), in blocks.
  private static let wide: [ClosedRange<UInt32>] = [
    0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xA960...0xA97F, 0xAC00...0xD7A3,
    0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1F64F,
    0x1F680...0x1F6FF, 0x1F900...0x1F9FF, 0x1FA70...0x1FAFF, 0x20000...0x3FFFD,
  ]

  fileprivate var columns: Int {
    guard value >= 0x300 else { return 1 }
    switch properties.generalCategory {
    case .nonspacingMark, .enclosingMark, .format: return 0
    default: return Self.wide.contains { $0.contains(value) } ? 2 : 1
    }
  }

  /// Whether it could drive a terminal, or turn the order of what is shown.
  var isUnsafe: Bool {
    properties.generalCategory == .control || (0x202A...0x202E).contains(value)
      || (0x2066...0x2069).contains(value) || value == 0x2028 || value == 0x2029
  }
}
