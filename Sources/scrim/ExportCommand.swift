import ArgumentParser
import Glibc
import Migration
import Primitives
import SystemPackage
import Vault

struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Take files out of a vault, without mounting.",
    discussion: """
      What is damaged is left out and listed at the end. A killed or interrupted run is continued \
      by the same command.
      """)

  @Argument(help: "The folder of a vault.")
  var vault: PathArgument

  @Argument(help: "A file, or a directory whose content is taken out; '/' for everything.")
  var path: PathArgument

  @Argument(help: "The directory it goes into; it is made if it does not exist.")
  var destination: PathArgument

  @Flag(help: "Print one JSON object a line; docs/cli.md describes them.")
  var json = false

  @OptionGroup var secrets: SecretOptions

  func run() throws {
    let slash = UInt8(ascii: "/")
    guard !(destination.absolute + [slash]).starts(with: vault.absolute + [slash]) else {
      throw Failure(.usage, "\(destination.text) is the vault itself, or in it")
    }
    let places = try findInParts()
    // Without more descriptors it works all the same, and only deep trees may not.
    _ = try? Sys.raiseDescriptorLimit()
    let folder = try openDestination()
    let progress = TransferProgress(json: json)
    var end = MigrationEnd.complete
    var elder: VaultDirectory?
    for (directory, found) in places {
      guard case .complete = end else { break }
      end = try transferring { () throws(TransferError) in
        let (directory, found) = try entered(directory, found)
        defer { elder = directory }
        return try Exporter(to: folder, observer: progress.observer).run(
          directory, found, elder: elder)
      }
    }
    try progress.finish(end)
  }

  /// Where the path is: while the vault's master key is being replaced perhaps in both of its parts.
  private func findInParts() throws -> [(VaultDirectory, VaultEntry?)] {
    let parts = try VaultReader.parts(vault, secrets)
    var places: [(VaultDirectory, VaultEntry?)] = []
    var missing: Failure?
    for part in parts {
      do {
        places.append(try part.find(path))
      } catch let failure as Failure where failure.exit == .notFound {
        missing = failure
      }
    }
    if places.isEmpty, let missing { throw missing }
    return places
  }

  /// A directory stands for all that is in it.
  private func entered(
    _ directory: VaultDirectory, _ found: VaultEntry?
  ) throws(TransferError) -> (VaultDirectory, VaultEntry?) {
    guard let found, found.mode == .directory else { return (directory, found) }
    do throws(VaultError) {
      return (try directory.openDirectory(found), nil)
    } catch {
      throw .vault(error)
    }
  }

  private func openDestination() throws -> SharedFD {
    do throws(Errno) {
      do throws(Errno) {
        try Sys.mkdirat(Sys.currentDirectory, destination.bytes, mode: 0o700)
      } catch .fileExists {
        // Files that are there already are compared by size and time.
      }
      return SharedFD(
        try Sys.openat(Sys.currentDirectory, destination.bytes, [.readOnly, .directory]))
    } catch {
      throw Failure(.system, "\(destination.text): \(error)")
    }
  }
}
