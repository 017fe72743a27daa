import ArgumentParser

struct MountsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mounts", abstract: "List the vaults that are mounted.")

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  func run() throws {
    let mounts = try MountTable.read().filter(\.isScrim).map(MountFacts.init)
    if json { return try Output.json(mounts) }
    for mount in mounts {
      try Output.line("\(StatusText.safe(mount.vault)) on \(StatusText.safe(mount.mountpoint))")
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
