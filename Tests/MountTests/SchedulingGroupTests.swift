import Foundation
import Glibc
import TestSupport
import Testing

@testable import Mount

/// With whom this process shares its part of the processors, as procfs and cgroups show it.
@Suite struct SchedulingGroupTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var cgroup: String
    var autogroup = "1\n"
    var namespace = "cgroup:[4026531835]"
    var leads = true
    /// Cgroups that have the cpu controller's files.
    var weighted: [String] = []
    /// Members of each cgroup that there is.
    var members: [String: String] = ["": "1\n"]
    /// What cgroup.stat says in each.
    var state = "nr_descendants 0\nnr_dying_descendants 0\n"
    var scheduler = "disabled\n"
    /// Whose procfs it is.
    var reader = getpid()
    let isOurs: Bool
  }

  static let own = "\(getpid())\n"

  static let cases: [Case] = [
    Case(testDescription: "a session of its own", cgroup: "0::/\n", isOurs: true),
    Case(testDescription: "somebody else's session", cgroup: "0::/\n", leads: false, isOurs: false),
    Case(testDescription: "no autogroup", cgroup: "0::/\n", autogroup: "0\n", isOurs: false),
    Case(
      testDescription: "a container, where the root may be anything", cgroup: "0::/\n",
      namespace: "cgroup:[4026532000]", isOurs: false),
    Case(
      testDescription: "a loaded scheduler", cgroup: "0::/\n", scheduler: "enabled\n",
      isOurs: false),
    Case(
      testDescription: "the procfs of another PID namespace", cgroup: "0::/\n",
      reader: getpid() + 1, isOurs: false),
    Case(
      testDescription: "a cgroup for bookkeeping only", cgroup: "0::/a/b\n",
      members: ["": "", "/a": "", "/a/b": "1\n2\n"], isOurs: true),
    Case(
      testDescription: "a cgroup that others are in", cgroup: "0::/a\n", weighted: ["/a"],
      members: ["": "", "/a": "1\n\(own)"], isOurs: false),
    Case(
      testDescription: "a cgroup of its own", cgroup: "0::/a/b\n", autogroup: "0\n", leads: false,
      weighted: ["/a", "/a/b"], members: ["": "", "/a": "", "/a/b": own], isOurs: true),
    Case(
      testDescription: "a cgroup of its own with others below", cgroup: "0::/a\n",
      weighted: ["/a"], members: ["": "", "/a": own], state: "nr_descendants 2\n", isOurs: false),
    Case(
      testDescription: "a cgroup of its own in one whose time it shares", cgroup: "0::/a/b\n",
      weighted: ["/a"], members: ["": "", "/a": "", "/a/b": own], isOurs: false),
    Case(
      testDescription: "cgroups that are not mounted", cgroup: "0::/a\n", members: [:],
      isOurs: false),
    Case(
      testDescription: "the first version's root",
      cgroup: "3:cpu,cpuacct:/\n1:name=systemd:/x\n0::/x\n", isOurs: true),
    Case(
      testDescription: "a cgroup of the first version", cgroup: "3:cpu,cpuacct:/a\n0::/\n",
      isOurs: false),
    Case(testDescription: "other controllers only", cgroup: "3:cpuset:/a\n", isOurs: true),
    Case(testDescription: "nonsense", cgroup: "cpu\n", isOurs: false),
  ]

  @Test(arguments: cases) func isOursWhereNobodyElseIsIn(_ given: Case) throws {
    let folder = try TemporaryDirectory()
    func put(_ path: String, _ text: String) throws {
      let file = URL(fileURLWithPath: folder.path + path)
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: file)
    }
    func link(_ path: String, _ target: String) throws {
      try FileManager.default.createSymbolicLink(
        atPath: folder.path + path, withDestinationPath: target)
    }
    try put("/proc/\(given.reader)/cgroup", given.cgroup)
    try put("/proc/sys/kernel/sched_autogroup_enabled", given.autogroup)
    try put("/sys/kernel/sched_ext/state", given.scheduler)
    try link("/proc/self", "\(given.reader)")
    try FileManager.default.createDirectory(
      atPath: folder.path + "/proc/self/ns", withIntermediateDirectories: true)
    try link("/proc/self/ns/cgroup", given.namespace)
    for (group, members) in given.members {
      try put("/sys/fs/cgroup\(group)/cgroup.procs", members)
      try put("/sys/fs/cgroup\(group)/cgroup.stat", given.state)
    }
    for group in given.weighted { try put("/sys/fs/cgroup\(group)/cpu.weight", "100\n") }
    let group = SchedulingGroup(
      processes: folder.path + "/proc", kernel: folder.path + "/sys", leadsSession: given.leads)
    #expect(group.isOurs == given.isOurs)
  }

  @Test func isNotOursWithoutProcfs() {
    #expect(!SchedulingGroup(processes: "/nowhere", leadsSession: true).isOurs)
  }
}
