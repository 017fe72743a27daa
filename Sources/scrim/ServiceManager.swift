import Glibc

/// Tells systemd, where it started this process, how it goes (sd_notify(3)).
enum ServiceManager {
  /// The mount answers.
  static func ready() { tell("READY=1") }

  private static func tell(_ state: String) {
    guard let name = getenv("NOTIFY_SOCKET") else { return }
    var path = Array(UnsafeRawBufferPointer(start: name, count: strlen(name)))
    // An abstract address is written with an @.
    if path.first == UInt8(ascii: "@") { path[0] = 0 }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard path.first == 0 || path.first == UInt8(ascii: "/"), path.count < room else { return }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    let end = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard end >= 0 else { return }
    defer { close(end) }
    let length = MemoryLayout<sockaddr_un>.size - room + path.count
    withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        let text = Array(state.utf8)
        _ = sendto(
          end, text, text.count, Int32(MSG_NOSIGNAL), address, socklen_t(length))
      }
    }
  }
}
