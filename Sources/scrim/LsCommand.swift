import ArgumentParser
import Container
import FoundationEssentials
import Vault

struct LsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ls",
    abstract: "List a directory of a vault, without mounting.")

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @Argument(help: "A directory or file in it, from its root.")
  var path: PathArgument?

  @Flag(name: .short, help: "Add type and permissions, owner, size, time and storage mode.")
  var long = false

  @Flag(name: [.customShort("R"), .long], help: "List the paths of everything below.")
  var recursive = false

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  @OptionGroup var secrets: SecretOptions

  func run() throws {
    let reader = try VaultReader(vault, secrets)
    var lister = Lister(command: self)
    guard let path else {
      try lister.list(reader.vault.root, prefix: [])
      return try lister.finish()
    }
    let (directory, entry) = try reader.find(path)
    if let entry, entry.mode != .directory {
      try lister.add(entry, of: directory, path: path.bytes)
    } else {
      let listed = try entry.map { try directory.openDirectory($0) } ?? directory
      let prefix = path.bytes.split(separator: UInt8(ascii: "/")).joined(separator: [
        UInt8(ascii: "/")
      ])
      try lister.list(listed, prefix: recursive ? Array(prefix) : [])
    }
    try lister.finish()
  }
}

/// Prints entries as they come, or gathers them for JSON.
private struct Lister {
  let command: LsCommand
  private var listed: [ListedEntry] = []
  private var failure: Failure?

  init(command: LsCommand) { self.command = command }

  /// Everything in a directory in byte order, and below it if that was asked for.
  mutating func list(_ directory: VaultDirectory, prefix: [UInt8]) throws {
    for name in try directory.list().map(\.name).sorted(by: { $0.lexicographicallyPrecedes($1) }) {
      let path = prefix.isEmpty ? name : prefix + [UInt8(ascii: "/")] + name
      do {
        guard let entry = try directory.lookup(name) else { continue }
        try add(entry, of: directory, path: path)
        if command.recursive && entry.mode == .directory {
          try list(try directory.openDirectory(entry), prefix: path)
        }
      } catch let error as VaultError {
        // One damaged entry must not hide the others; the exit code tells in the end.
        let described = Failure(describing: error)
        let reason = described?.message ?? "\(error)"
        Output.complain("\(StatusText.safe(String(decoding: path, as: UTF8.self))): \(reason)")
        failure = described ?? Failure(.damaged, reason)
      }
    }
  }

  mutating func add(_ entry: VaultEntry, of directory: VaultDirectory, path: [UInt8]) throws {
    guard command.long || command.json else {
      return try Output.write(path + [UInt8(ascii: "\n")])
    }
    let size = try directory.plainSize(entry)
    let mode = try Self.storage(of: entry, in: directory)
    let described = ListedEntry(entry, path: path, size: size, mode: mode)
    if command.json {
      listed.append(described)
    } else {
      try Output.write(Array(described.line.utf8) + path + [UInt8(ascii: "\n")])
    }
  }

  func finish() throws {
    if command.json { try Output.json(listed) }
    if let failure {
      throw Failure(failure.exit, "not everything could be listed; see above")
    }
  }

  /// How the content of a file is stored; nil for what is no file.
  private static func storage(
    of entry: VaultEntry, in directory: VaultDirectory
  ) throws -> ContentPolicy? {
    switch entry.mode {
    case .plain: .plain
    case .container: try directory.openContainer(entry).file.policy
    case .directory, .symbolicLink, .longLink, .special: nil
    }
  }
}
