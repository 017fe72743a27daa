import ArgumentParser
import Container
import Glibc
import Logging
import Migration
import Primitives
import SystemPackage
import Vault

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Store existing files in another mode, on a mount in use or in a vault.",
    discussion: """
      File by file: the new version is written, synced, read back and compared, and then put into \
      the place of the old one. Who reads a file keeps the version he has open. Killed at any \
      moment each file is in its old or its new mode, and the same command goes on.

      With --rekey a vault that is not mounted gets a new master key: everything in it is written \
      anew, and the old key opens nothing of it any more.
      """)

  @Argument(
    help: ArgumentHelp(
      "Files and directories in a mount, or the folder of a vault that is not mounted, perhaps "
        + "with ':' and a path in it.", valueName: "path"))
  var paths: [PathArgument]

  @Option(
    help: ArgumentHelp(
      "The mode: plain, sealed, compressed or sealed-compressed; 'rules' for what the policy and "
        + "rules of each file's directory say.", valueName: "policy"))
  var content: ConversionPolicy?

  @Flag(help: "Replace the master key of a vault; modes stay.")
  var rekey = false

  @Flag(help: "With --rekey: also if other keys of the vault are lost by it.")
  var yes = false

  @Option(
    help: ArgumentHelp(
      "With --rekey: write the new recovery key here instead of printing it.", valueName: "file"))
  var recoveryFile: PathArgument?

  @OptionGroup var options: ConversionOptions

  @Flag(help: "Also what is in directories of directories.")
  var recursive = false

  @Flag(help: "Print one JSON object a line; docs/cli.md describes them.")
  var json = false

  @OptionGroup var secrets: SecretOptions

  func validate() throws {
    guard !paths.isEmpty else { throw ValidationError("name a file or directory") }
    guard rekey == (content == nil) else {
      throw ValidationError(
        rekey ? "--rekey keeps the modes: no --content" : "--content or --rekey is needed")
    }
    if rekey {
      guard paths.count == 1 else { throw ValidationError("--rekey takes one vault") }
      guard !options.wait, !options.discard, !recursive else {
        throw ValidationError("--wait, --discard and --recursive do not go with --rekey")
      }
      guard !json || recoveryFile != nil else {
        throw ValidationError("--rekey --json needs --recovery-file")
      }
    } else {
      guard !yes, recoveryFile == nil else {
        throw ValidationError("--yes and --recovery-file go with --rekey")
      }
    }
  }

  func run() throws {
    guard let content else {
      return try Rekey(
        path: paths[0], dropsKeys: yes, recoveryFile: recoveryFile, json: json
      ).run(secrets)
    }
    let goal = ConversionGoal(policy: content.policy, discards: options.discard)
    var places: [LivePlace] = []
    for path in paths {
      guard let place = try Self.live(path) else {
        guard paths.count == 1 else {
          throw try NotMounted.inside(path)
        }
        return try convertVault(path, goal)
      }
      if place.name == nil { try requireRecursive(path) }
      places.append(place)
    }
    let progress = TransferProgress(json: json)
    let conversion = LiveConversion(goal, waits: options.wait, observer: progress.observer)
    for place in places { conversion.take(place, recursive: recursive) }
    try progress.finish(conversion.finish())
  }

  /// `VAULT:PATH` does not exist as it is written.
  private static func live(_ path: PathArgument) throws(Failure) -> LivePlace? {
    do throws(Failure) {
      return try LivePlace.open(path)
    } catch {
      guard error.exit == .notFound, path.bytes.contains(UInt8(ascii: ":")) else { throw error }
      return nil
    }
  }

  private func requireRecursive(_ path: PathArgument) throws(Failure) {
    guard recursive else {
      throw Failure(.usage, "\(path.text) is a directory: --recursive converts what is in it")
    }
  }

  // MARK: Without a mount

  private func convertVault(_ path: PathArgument, _ goal: ConversionGoal) throws {
    let target = try MigrationTarget(path)
    if options.wait {
      throw Failure(.usage, "--wait is for mounts: nobody writes to a vault that is not mounted")
    }
    let secret = try secrets.secret(for: target.vault)
    try LogDestination.standardError.install(level: .error)
    _ = try? Sys.raiseDescriptorLimit()
    let vault = try Patience.during("opening the vault") { () throws(Failure) in
      try LeavingWriter.open(
        target.vault, secret, advice: "name its mount instead, or unmount it first")
    }
    let progress = TransferProgress(json: json)
    let end: MigrationEnd
    do {
      let (directory, entry) = try find(target, in: vault)
      if entry == nil { try requireRecursive(path) }
      let converter = TreeConverter(goal, observer: progress.observer)
      end = converter.run(directory, entry, path: target.names.last ?? [])
    } catch {
      try vault.close()
      throw error
    }
    try vault.close()
    try progress.finish(end)
  }

  private func find(
    _ target: MigrationTarget, in vault: Vault
  ) throws -> (directory: VaultDirectory, entry: VaultEntry?) {
    var directory = vault.root
    for (index, name) in target.names.enumerated() {
      guard let entry = try directory.lookup(name) else {
        let text = target.names.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
        throw Failure(.notFound, "there is no \(text) in the vault")
      }
      if index == target.names.count - 1, entry.mode != .directory { return (directory, entry) }
      directory = try directory.openDirectory(entry)
    }
    return (directory, nil)
  }
}

/// A mode, or what the directory says.
struct ConversionPolicy: ExpressibleByArgument {
  let policy: ContentPolicy?

  init?(argument: String) {
    policy = ContentPolicy(name: argument)
    guard policy != nil || argument == "rules" else { return nil }
  }

  static var allValueStrings: [String] { ContentPolicy.allValueStrings + ["rules"] }
}

/// What `convert` and `mark --convert` share.
struct ConversionOptions: ParsableArguments {
  @Flag(help: "Try files that are open for writing again until they are closed.")
  var wait = false

  @Flag(
    help:
      "Overwrite the blocks of former versions and give them back. What a disk keeps of them all the same: docs/threat-model.md."
  )
  var discard = false
}
