import Glibc

/// What fusermount3 says on standard error when libfuse runs it: the only reason that libfuse has.
enum HelperOutput {
  private static let name = "fusermount3: "

  /// Runs `body`, and returns with its result the helper's last words. What others wrote meanwhile goes on its way.
  static func gathering<R>(_ body: () -> R) -> (R, String?) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return (body(), nil) }
    for end in ends {
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
      // More than the pipe holds nobody says here; then it is lost and stops nobody.
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
    }
    let saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)
    dup2(ends[1], STDERR_FILENO)
    close(ends[1])
    let result = body()
    if saved >= 0 { dup2(saved, STDERR_FILENO) } else { close(STDERR_FILENO) }
    let text = readAll(ends[0])
    close(ends[0])
    if saved >= 0 { close(saved) }
    var said: String?
    for line in text.split(separator: "\n") {
      if line.hasPrefix(name) {
        said = String(line.dropFirst(name.count))
      } else {
        let other = Array("\(line)\n".utf8)
        _ = write(STDERR_FILENO, other, other.count)
      }
    }
    return (result, said)
  }

  private static func readAll(_ descriptor: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 65536)
    // SAFETY: the call writes at most `count` bytes into the array it is lent.
    let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    return String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
  }
}
