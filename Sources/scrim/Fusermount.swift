import Glibc

/// fusermount3, which may unmount what an ordinary user mounted.
enum Fusermount {
  /// Why it did not unmount.
  struct Refusal {
    let isBusy: Bool
    let reason: String

    init(isBusy: Bool = false, _ reason: String) {
      self.isBusy = isBusy
      self.reason = reason
    }
  }

  /// Nil when it did.
  static func unmount(_ entry: MountEntry, lazily: Bool) -> Refusal? {
    if let owner = entry.owner, owner != geteuid() {
      let name = getpwuid(owner).map { String(cString: $0.pointee.pw_name) } ?? "user \(owner)"
      return Refusal("\(name) mounted it, so only \(name) and root can")
    }
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return Refusal("no pipe: \(Output.errnoText())") }
    defer { close(ends[0]) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    let ended = run(entry.point, lazily: lazily, output: ends[1])
    close(ends[1])
    guard let status = ended else {
      return Refusal("fusermount3 is not installed, and without it only root can (package fuse3)")
    }
    if status == 0 { return nil }
    // A line or two, which the pipe has room for.
    var text = [UInt8](repeating: 0, count: 1024)
    let count = read(ends[0], &text, text.count)
    let said = String(decoding: text.prefix(max(count, 0)), as: UTF8.self)
    let line = said.split(separator: "\n").last.map(String.init) ?? "fusermount3 gave no reason"
    return Refusal(isBusy: said.contains("busy"), StatusText.safe(line))
  }

  /// The status it ended with, or nil where it is not there.
  private static func run(_ point: [UInt8], lazily: Bool, output: Int32) -> Int32? {
    let words = ["fusermount3", lazily ? "-uz" : "-u", "--"].map { $0.utf8CString.map { $0 } }
    var arguments: [UnsafeMutablePointer<CChar>?] =
      (words + [PathArgument(bytes: point).terminated]).map { strdup($0) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO)
    // Its words are looked at, so they must be in one language.
    var language: [UnsafeMutablePointer<CChar>?] = [strdup("LC_ALL=C"), nil]
    defer { free(language[0]) }
    var process: pid_t = 0
    guard posix_spawnp(&process, "fusermount3", &actions, nil, arguments, &language) == 0 else {
      return nil
    }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 && errno == EINTR {}
    return status
  }
}
