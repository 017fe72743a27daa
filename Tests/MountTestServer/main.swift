// A small filesystem in memory under the product's transport, for tests that kill, starve and unmount it.
//
// MountTestServer MOUNTPOINT BACKING [key=value ...]; one line per event on standard output:
//   ready transport=... | passthrough=... | io_uring=...
//   stats NAME=COUNT ...      after a line on standard input
//   end REASON                when serving ended
import CFuse
import CLinux
import Glibc
import Logging
import Mount

Session.blockTerminationSignals()
LoggingSystem.bootstrap(StreamLogHandler.standardError)

let words = CommandLine.arguments
guard words.count >= 3 else {
  say("usage: MountTestServer MOUNTPOINT BACKING [key=value ...]")
  exit(2)
}
var settings: [String: String] = [:]
for word in words.dropFirst(3) {
  let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
  if parts.count == 2 { settings[parts[0]] = parts[1] }
}

let server = Server(backing: words[2])
var options = SessionOptions(source: words[2])
options.subtype = settings["subtype"] ?? "scrimtest"
options.allowOther = settings["allow_other"] != "off"
options.ioUring = IOUringMode(rawValue: settings["io_uring"] ?? "auto") ?? .auto
options.passthrough = settings["passthrough"] != "off"
options.passthroughProbe = server.probe
options.vaultFolder = settings["vault"] == "on" ? words[2] : nil
options.nonEmpty = settings["nonempty"] == "on"
if let depth = settings["depth"].flatMap({ Int($0) }) { options.ringDepth = depth }
if let readAhead = settings["read_ahead"].flatMap({ Int($0) }) { options.readAheadKiB = readAhead }

var logger = Logger(label: "test-server")
logger.logLevel = settings["log"] == "debug" ? .debug : .error

do {
  let session = try Session(
    mountPoint: words[1], options: options, operations: Server.operations,
    userdata: Unmanaged.passUnretained(server).toOpaque(), logger: logger)
  server.session = session
  if settings["drop"] == "sys_admin" { _ = scrim_drop_capability(SCRIM_CAP_SYS_ADMIN) }
  if let limit = settings["nofile"].flatMap({ UInt($0) }) {
    var limits = rlimit(rlim_cur: limit, rlim_max: limit)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
  }
  let end = try session.run { negotiated in
    say(
      "ready transport=\(negotiated.transport) | passthrough=\(negotiated.passthrough)"
        + " | io_uring=\(negotiated.ioUring)")
    server.reportOnRequest()
  }
  say("end \(end)")
} catch {
  say("error \(error)")
  exit(1)
}
