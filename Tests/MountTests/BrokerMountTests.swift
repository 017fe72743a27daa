import Glibc
import Testing

/// Mounts of an ordinary user, with the broker as it is installed: with a file capability.
@Suite(.enabled(if: FuseDevice.isUsable), .serialized)
struct BrokerMountTests {
  private static let user: uid_t = 65534
  private static let content = Array("what the kernel reads".utf8)
  private static let header = Array("SCRIMVLT and the rest".utf8)

  /// The broker where file capabilities count, which a filesystem in memory may be mounted without.
  private final class Installation {
    let broker: String
    private let folder: String
    private let device = OpenDevice()

    init(capability: Bool = true) throws {
      var template = Array("/var/tmp/scrim-broker-XXXXXX".utf8CString)
      guard mkdtemp(&template) != nil else { throw ServerProcess.failure("mkdtemp") }
      folder = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
      broker = "\(folder)/scrim-broker"
      var prepare = "chmod 755 '\(folder)' && "
      prepare += "cp '\(try ServerProcess.executable("scrim-broker"))' '\(broker)'"
      if capability { prepare += " && setcap cap_sys_admin+p '\(broker)'" }
      guard system("PATH=$PATH:/sbin:/usr/sbin; \(prepare)") == 0 else {
        throw ServerProcess.failure("preparing the broker")
      }
    }

    deinit { system("rm -rf '\(folder)'") }

    func serve(_ settings: [String] = []) throws -> ServerProcess {
      try ServerProcess(
        ["allow_other=off", "vault=on"] + settings,
        files: ["scrim.vault": header, "plain": content], user: user,
        environment: ["SCRIM_BROKER=\(broker)"])
    }
  }

  /// The device for everybody, as udev makes it, while this lives: a container may give it to root only.
  private final class OpenDevice {
    private let mode: mode_t

    init() {
      var status = stat()
      stat("/dev/fuse", &status)
      mode = status.st_mode & 0o7777
      chmod("/dev/fuse", mode | 0o006)
    }

    deinit { chmod("/dev/fuse", mode) }
  }

  /// Runs a shell command as the mounting user, the only one who may come in.
  private static func run(_ command: String) -> Bool {
    system("setpriv --reuid=\(user) --regid=\(user) --clear-groups sh -c '\(command)'") == 0
  }

  /// The one child of a process, whichever of its threads started it.
  private static func child(of process: pid_t) -> pid_t? {
    let list = "/tmp/scrim-children-\(getpid())"
    defer { unlink(list) }
    system("cat /proc/\(process)/task/*/children > \(list)")
    guard let file = fopen(list, "r") else { return nil }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard fgets(&line, Int32(line.count), file) != nil else { return nil }
    return pid_t(atoi(line))
  }

  @Test(arguments: TransportTests.Kind.here)
  func anOrdinaryUserHasPassthrough(_ kind: TransportTests.Kind) throws {
    let installed = try Installation()
    let server = try installed.serve([kind.rawValue])
    #expect(server.ready.contains("passthrough=active"))
    let file = "\(server.mountPoint)/plain"
    #expect(
      Self.run(
        "printf more >> \(file) && test $(cat \(file) | wc -c) = 25"))
    #expect(Self.run("grep -q \"what the kernel readsmore\" \(server.backing)/plain"))
    #expect(try server.statistic("reads") == 0)
    #expect(try server.statistic("writes") == 0)
    #expect(try server.statistic("opens") >= 2)
    #expect(try server.waitFor("ids", toBe: 0))
    #expect(server.unmount())
    #expect(try server.end().status == 0)
  }

  @Test func theBrokerDiesWithAKilledServer() throws {
    let installed = try Installation()
    let server = try installed.serve()
    let broker = try #require(Self.child(of: server.pid))
    #expect(access("/proc/\(broker)", F_OK) == 0)
    server.signal(SIGKILL)
    server.reap()
    var rounds = 0
    while access("/proc/\(broker)", F_OK) == 0, rounds < 600 {
      usleep(100_000)
      rounds += 1
    }
    #expect(rounds < 600)
    // Nobody holds the device any longer: looking at the mount fails at once instead of hanging.
    #expect(!Self.run("timeout 60 stat \(server.mountPoint)/plain 2>/dev/null"))
    #expect(Self.run("timeout 60 stat \(server.mountPoint)/plain 2>&1 | grep -q connected"))
  }

  @Test func theMountGoesOnWhereItsBrokerDies() throws {
    let installed = try Installation()
    let server = try installed.serve()
    let broker = try #require(Self.child(of: server.pid))
    kill(broker, SIGKILL)
    #expect(Self.run("test $(cat \(server.mountPoint)/plain | wc -c) = \(Self.content.count)"))
    #expect(try server.statistic("reads") > 0)
    #expect(server.unmount())
    #expect(try server.end().status == 0)
  }

  @Test(.enabled(if: SystemdStandIn.isPossible))
  func aBrokerThatSystemdStartsDoesTheSame() throws {
    let device = OpenDevice()
    defer { withExtendedLifetime(device) {} }
    let systemd = try SystemdStandIn()
    let server = try ServerProcess(
      ["allow_other=off", "vault=on"],
      files: ["scrim.vault": Self.header, "plain": Self.content], user: Self.user)
    #expect(server.ready.contains("passthrough=active"))
    #expect(Self.run("cat \(server.mountPoint)/plain > /dev/null"))
    #expect(try server.statistic("reads") == 0)
    #expect(server.unmount())
    #expect(try server.end().status == 0)
    #expect(systemd.brokerEnds())
  }

  @Test func withoutABrokerThatCanTheReasonIsSaid() throws {
    let powerless = try Installation(capability: false)
    let server = try powerless.serve()
    #expect(server.ready.contains("lacks CAP_SYS_ADMIN (as root: setcap cap_sys_admin+p"))
    #expect(Self.run("cat \(server.mountPoint)/plain > /dev/null"))
    let missing = try ServerProcess(
      ["allow_other=off", "vault=on"], files: ["scrim.vault": Self.header], user: Self.user,
      environment: ["SCRIM_BROKER=/nonexistent/broker"])
    #expect(missing.ready.contains("the broker /nonexistent/broker could not be started"))
    let able = try Installation()
    let strange = try ServerProcess(
      ["allow_other=off", "vault=on"], files: ["scrim.vault": Self.content], user: Self.user,
      environment: ["SCRIM_BROKER=\(able.broker)"])
    #expect(strange.ready.contains("passthrough=unavailable"))
  }
}
