import Glibc

/// Standard output and error, in bytes: names need not be UTF-8.
enum Output {
  /// Writes everything to standard output.
  static func write(_ bytes: [UInt8]) throws(Failure) {
    try check(bytes.withUnsafeBytes { Descriptor.writeAll(STDOUT_FILENO, $0) })
  }

  /// Writes everything to standard output.
  static func write(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
    try check(Descriptor.writeAll(STDOUT_FILENO, bytes))
  }

  private static func check(_ isWritten: Bool) throws(Failure) {
    guard isWritten else {
      throw Failure(.system, "standard output could not be written: \(errnoText())")
    }
  }

  /// Writes a line to standard output.
  static func line(_ text: String) throws(Failure) {
    try write(Array((text + "\n").utf8))
  }

  /// Writes a message for the user to standard error. Nothing can be done where that fails.
  static func complain(_ message: String) {
    let bytes = Array("scrim: \(message)\n".utf8)
    bytes.withUnsafeBytes { _ = Descriptor.writeAll(STDERR_FILENO, $0) }
  }

  /// Writes lines that are as they should be to standard error.
  static func complain(lines text: String) {
    Array("\(text)\n".utf8).withUnsafeBytes { _ = Descriptor.writeAll(STDERR_FILENO, $0) }
  }

  /// The text of the current `errno`.
  static func errnoText(_ code: Int32 = errno) -> String {
    guard let text = strerror(code) else { return "error \(code)" }
    return String(cString: text)
  }
}

/// Loops around read(2) and write(2) on descriptors that may be pipes, sockets or terminals.
enum Descriptor {
  /// Whether all bytes were written; `errno` tells why not.
  static func writeAll(_ descriptor: Int32, _ buffer: UnsafeRawBufferPointer) -> Bool {
    var rest = buffer[...]
    while !rest.isEmpty {
      let written = Glibc.write(
        descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
      if written < 0 {
        if errno == EINTR { continue }
        return false
      }
      rest = rest.dropFirst(written)
    }
    return true
  }

  /// Fills the buffer; fewer bytes at the end of the stream, nil on an error.
  static func readAll(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
    var count = 0
    while count < buffer.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[count...])
      let got = Glibc.read(descriptor, rest.baseAddress, rest.count)
      if got < 0 {
        if errno == EINTR { continue }
        return nil
      }
      if got == 0 { break }
      count += got
    }
    return count
  }
}
