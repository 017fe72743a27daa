import ArgumentParser
import Glibc

struct MountsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mounts", abstract: "List the vaults that are mounted.")

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  func run() throws {
    let mounts = try MountTable.read().filter(\.isScrim).map(MountFacts.init)
    if json { return try Output.json(mounts) }
    let width = Screen.size(STDOUT_FILENO)?.columns
    for mount in mounts {
      let (vault, point) = (StatusText.safe(mount.vault), StatusText.safe(mount.mountpoint))
      let line = "\(vault) on \(point)"
      try Output.line(line.columns > width ?? .max ? "\(vault)\n  on \(point)" : line)
    }
  }
}

private struct MountFacts: Encodable {
  let vault: String
  let mountpoint: String

  init(_ entry: MountEntry) {
    vault = String(decoding: entry.source, as: UTF8.self)
    mountpoint = String(decoding: entry.point, as: UTF8.self)
  }
}
