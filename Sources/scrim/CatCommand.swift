import ArgumentParser
import Vault

struct CatCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cat",
    abstract: "Write a file of a vault to standard output, without mounting.")

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @Argument(help: "A file in it, from its root.")
  var path: PathArgument

  @OptionGroup var secrets: SecretOptions

  func run() throws {
    let (directory, found) = try VaultReader(vault, secrets).find(path)
    guard let entry = found, entry.mode != .directory else {
      throw Failure(.system, "\(path.text) is a directory")
    }
    if entry.mode == .symbolicLink || entry.mode == .longLink {
      let target = String(decoding: try directory.readLink(entry), as: UTF8.self)
      throw Failure(.system, "\(path.text) is a symbolic link to \(target); name that")
    }
    try ContentReader(entry, in: directory).forEachChunk { try Output.write($0) }
  }
}
