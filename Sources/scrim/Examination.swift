import Glibc
import Mount
import Primitives

/// Looks at the machine as far as this user can see it.
struct Examination {
  private let isRoot = geteuid() == 0
  private let release: String
  private let version: (major: Int, minor: Int)

  init() {
    release =
      FileText.read("/proc/sys/kernel/osrelease").map {
        String(decoding: $0.filter { $0 >= 32 }, as: UTF8.self)
      } ?? "unknown"
    let numbers = release.split { !$0.isNumber }.prefix(2).map { Int($0) ?? 0 }
    version = (numbers.first ?? 0, numbers.count > 1 ? numbers[1] : 0)
  }

  /// In the order of their weight.
  var findings: [Finding] {
    [
      program, device, helper, kernel, passthrough, broker, rings, allowOther, processor,
      descriptors,
      memory,
    ]
  }

  /// What runs here.
  private var program: Finding {
    #if DEBUG
      let build = "debug build"
    #else
      let build = "release build"
    #endif
    let libraries = [Mount.library, Libraries.crypto, Libraries.compression]
    return Finding(
      "scrim", true, "\(Version.text), \(build), with \(libraries.joined(separator: ", "))",
      remedy: "")
  }

  private func isAtLeast(_ major: Int, _ minor: Int) -> Bool {
    (version.major, version.minor) >= (major, minor)
  }

  private var device: Finding {
    let descriptor = open("/dev/fuse", O_RDWR | O_CLOEXEC)
    let reason = Output.errnoText()
    if descriptor >= 0 { close(descriptor) }
    let remedy =
      access("/dev/fuse", F_OK) == 0
      ? "let this user read and write /dev/fuse (as root: chmod 0666 /dev/fuse)"
      : "as root: modprobe fuse; in a container: start it with --device /dev/fuse"
    return Finding(
      "/dev/fuse", descriptor >= 0, needed: true,
      descriptor >= 0 ? "can be opened" : "cannot be opened: \(reason)", remedy: remedy)
  }

  private var helper: Finding {
    let folders = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
    let programs = folders.split(separator: ":").map { "\($0)/fusermount3" }
    let program = programs.first { access($0, X_OK) == 0 }
    var status = stat()
    let isSetUID =
      program.map { stat($0, &status) == 0 && status.st_mode & mode_t(S_ISUID) != 0 } ?? false
    let detail =
      switch (program, isSetUID) {
      case (nil, _): "not found; only root mounts without it"
      case (let program?, true): program
      case (let program?, false): "\(program) is not set-uid root"
      }
    return Finding(
      "fusermount3", program != nil && (isSetUID || isRoot), needed: !isRoot, detail,
      remedy: "install the package fuse3 (as root: apt-get install fuse3)")
  }

  private var kernel: Finding {
    Finding(
      "kernel", isAtLeast(6, 9), "Linux \(release)",
      remedy: "kernel passthrough of plain files came with Linux 6.9")
  }

  private var passthrough: Finding {
    let isAble = mayAdminister || Self.broker.problem == nil
    let detail =
      switch (isAtLeast(6, 9), isAble) {
      case (true, true): "a mount of this user can have it, on most filesystems"
      case (true, false): "this user lacks CAP_SYS_ADMIN, and no broker lends it"
      case (false, _): "this kernel is too old for it"
      }
    return Finding(
      "passthrough", isAtLeast(6, 9) && isAble, detail,
      remedy: isRoot
        ? "start the container with CAP_SYS_ADMIN; without it plain files are served by the daemon"
        : "see broker; without it plain files are served by the daemon")
  }

  /// CAP_SYS_ADMIN, bit 21, among the effective capabilities (proc(5)).
  private var mayAdminister: Bool {
    guard let text = FileText.read("/proc/self/status") else { return false }
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
    guard let line = lines.first(where: { $0.hasPrefix("CapEff:") }),
      let word = line.split(whereSeparator: \.isWhitespace).last,
      let effective = UInt64(word, radix: 16)
    else { return false }
    return effective & 1 << 21 != 0
  }

  private static let broker = BrokerPresence.find()

  private var broker: Finding {
    let found = Self.broker
    let detail = found.name ?? "none"
    return Finding(
      "broker", found.problem == nil, found.problem ?? detail,
      remedy: "install Scrim with 'make install' or its package; only users other than root need it"
    )
  }

  private var rings: Finding {
    let parameter = "/sys/module/fuse/parameters/enable_uring"
    let disabled = "/proc/sys/kernel/io_uring_disabled"
    let setting = FileText.read(parameter)?.first
    let isSwitchedOff = FileText.read(disabled)?.first.map { $0 != UInt8(ascii: "0") } ?? false
    if setting == UInt8(ascii: "Y"), !isSwitchedOff {
      return Finding("io_uring", true, "switched on in the fuse module", remedy: "")
    }
    if setting == nil {
      return Finding(
        "io_uring", false, isAtLeast(6, 14) ? "the kernel was built without it" : "not known to it",
        remedy: "FUSE over io_uring came with Linux 6.14; mounts work without it")
    }
    return Finding(
      "io_uring", false, isSwitchedOff ? "io_uring is switched off" : "off in the fuse module",
      remedy: isSwitchedOff
        ? "as root: sysctl kernel.io_uring_disabled=0" : "as root: echo Y > \(parameter)")
  }

  private var allowOther: Finding {
    let lines = FileText.read("/etc/fuse.conf")?.split(separator: UInt8(ascii: "\n")) ?? []
    let isAllowed = lines.contains { line in
      line.filter { $0 > 32 } == Array("user_allow_other".utf8)
    }
    return Finding(
      "allow_other", isRoot || isAllowed,
      isAllowed
        ? "in /etc/fuse.conf" : isRoot ? "root may always" : "-o allow_other is for root only",
      remedy: "as root, the line user_allow_other in /etc/fuse.conf")
  }

  private var processor: Finding {
    let isFast = CipherSuite.preferred == .aes256GCM
    return Finding(
      "AES", isFast,
      isFast ? "the processor has instructions for it" : "the processor has no instructions for it",
      remedy: "new vaults use ChaCha20-Poly1305 here, which needs none")
  }

  private var descriptors: Finding {
    let limit = Self.limit(RLIMIT_NOFILE)
    return Finding(
      "open files", limit >= 4096, "at most \(Self.text(limit))",
      remedy: "raise the hard limit of open files (ulimit -Hn, limits.conf(5)) to 4096 or more")
  }

  private var memory: Finding {
    let limit = Self.limit(__RLIMIT_MEMLOCK)
    let isEnough = isRoot || limit >= 1 << 20
    return Finding(
      "locked memory", isEnough, limit == .max ? "no limit" : StatusText.bytes(limit),
      remedy: "raise the limit (ulimit -l, limits.conf(5)) to 1 MiB, or keys may reach swap space")
  }

  /// A hard limit; the daemon raises the soft one by itself.
  private static func limit(_ resource: __rlimit_resource) -> UInt64 {
    var limits = rlimit()
    guard getrlimit(__rlimit_resource_t(resource.rawValue), &limits) == 0 else { return 0 }
    return UInt64(limits.rlim_max)
  }

  private static func text(_ limit: UInt64) -> String { limit == .max ? "no limit" : "\(limit)" }
}
