import ArgumentParser
import Container
import Glibc
import Logging
import Migration
import Primitives
import Synchronization
import SystemPackage
import Vault

struct MigrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "migrate",
    abstract: "Take trees of files into a vault, mounted or not.",
    discussion: """
      A killed or interrupted run is continued by the same command: what is in the vault already \
      is not copied again. A pattern with a slash is matched with the path below the source, \
      another one with the name; '*' stands for any bytes. Of all rules the first that matches \
      counts.
      """)

  @Argument(
    help: ArgumentHelp(
      "Files and directories, where DIR/ stands for what is in DIR; last the folder of a vault or a "
        + "mount, perhaps with ':' and a directory in it.",
      valueName: "path"))
  var paths: [PathArgument]

  @Flag(help: "Leave the sources as they are (default), or remove what is safely in the vault.")
  var mode = TransferMode.copy

  @Option(
    help: ArgumentHelp("Store these files as they are.", valueName: "glob"))
  var plain: [OrderedPattern] = []

  @Option(
    help: ArgumentHelp("Store these files sealed-compressed.", valueName: "glob"))
  var compress: [OrderedPattern] = []

  @Option(help: ArgumentHelp("Store these files sealed.", valueName: "glob"))
  var seal: [OrderedPattern] = []

  @Option(help: ArgumentHelp("Leave these files and directories out.", valueName: "glob"))
  var exclude: [OrderedPattern] = []

  @Option(
    help: ArgumentHelp(
      "More rules, one a line: plain, compress, seal or exclude, a blank, and a pattern.",
      valueName: "file"))
  var rules: PathArgument?

  @Flag(help: "Only say what would be done.")
  var dryRun = false

  @Flag(help: "Read everything back and compare, also what is there already.")
  var verify = false

  @Flag(help: "Print one JSON object a line; docs/cli.md describes them.")
  var json = false

  @OptionGroup var secrets: SecretOptions

  func validate() throws {
    guard paths.count >= 2 else { throw ValidationError("name a source, and a vault after it") }
  }

  func run() throws {
    guard let last = paths.last else { return }
    let live = try LiveDestination(last)
    let target = live == nil ? try MigrationTarget(last) : nil
    // Without more descriptors it works all the same, and only deep trees may not.
    _ = try? Sys.raiseDescriptorLimit()
    var options = MigrationOptions()
    options.rules = try allRules()
    options.moves = mode == .move
    options.verifies = verify
    let sources = try openSources(inside: live?.point ?? target?.vault.absolute ?? [])
    if let live {
      let lock = dryRun ? nil : try live.lock()
      defer { withExtendedLifetime(lock) {} }
      return try migrate(sources, live.destination, live.names, options) {}
    }
    guard let target else { return }
    let secret = try secrets.secret(for: target.vault)
    try LogDestination.standardError.install(level: .error)
    let vault = try open(target.vault, secret)
    try migrate(sources, MigrationDestination(vault), target.names, options) { try vault.close() }
  }

  private func migrate(
    _ sources: [MigrationSource], _ destination: MigrationDestination, _ names: [[UInt8]],
    _ options: MigrationOptions, close: () throws -> Void
  ) throws {
    let progress = TransferProgress(json: json)
    let migrator = Migrator(destination, options, observer: progress.observer)
    try transferring { () throws(TransferError) in
      if dryRun || progress.showsBar {
        progress.expect(try migrator.survey(sources, into: names))
      }
    }
    if dryRun {
      try progress.showPlan()
      return try close()
    }
    let end = try transferring { () throws(TransferError) in
      try migrator.run(sources, into: names)
    }
    try close()
    try progress.finish(end)
  }

  private func open(_ path: PathArgument, _ secret: VaultSecret) throws -> Vault {
    try Patience.during("opening the vault") {
      guard dryRun else {
        return try LeavingWriter.open(
          path, secret, advice: "name its mount instead, or unmount it first")
      }
      return try Vault.open(at: path.text, secret: secret, access: .readOnly)
    }
  }

  private func openSources(inside folder: [UInt8]) throws -> [MigrationSource] {
    let inside = folder + [UInt8(ascii: "/")]
    var opened: [MigrationSource] = []
    for source in paths.dropLast() {
      let place = source.absolute + [UInt8(ascii: "/")]
      guard !place.starts(with: inside) else {
        throw Failure(.usage, "\(source.text) is the vault itself, or in it")
      }
      do throws(Errno) {
        opened.append(try MigrationSource(path: source.bytes))
      } catch {
        let exit: Exit = error == .noSuchFileOrDirectory ? .notFound : .system
        throw Failure(exit, "\(source.text): \(error)")
      }
    }
    return opened
  }

  // MARK: Rules

  private func allRules() throws -> [MigrationRule] {
    var ordered: [(order: Int, rule: MigrationRule)] = []
    for (patterns, action) in [
      (plain, MigrationRule.Action.store(.plain)), (compress, .store(.sealedCompressed)),
      (seal, .store(.sealed)), (exclude, .exclude),
    ] {
      for pattern in patterns {
        ordered.append((pattern.order, try rule(pattern.path.bytes, action)))
      }
    }
    ordered.sort { $0.order < $1.order }
    return ordered.map { $0.rule } + (try rulesInFile())
  }

  private func rulesInFile() throws -> [MigrationRule] {
    guard let rules else { return [] }
    guard let text = FileText.read(rules.text) else {
      throw Failure(.system, "\(rules.text): \(Output.errnoText())")
    }
    var found: [MigrationRule] = []
    let blanks = Array(" \t".utf8)
    for line in text.split(separator: UInt8(ascii: "\n")) {
      // Some editors end lines with a carriage return too.
      let whole = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      let rest = whole.drop { blanks.contains($0) }
      let word = rest.prefix { !blanks.contains($0) }
      if word.isEmpty || word.first == UInt8(ascii: "#") { continue }
      let pattern = rest.dropFirst(word.count).drop { blanks.contains($0) }
      let action: MigrationRule.Action
      switch String(decoding: word, as: UTF8.self) {
      case "plain": action = .store(.plain)
      case "compress": action = .store(.sealedCompressed)
      case "seal": action = .store(.sealed)
      case "exclude": action = .exclude
      default:
        throw Failure(
          .usage, "\(rules.text): a line begins with plain, compress, seal or exclude")
      }
      found.append(try rule(Array(pattern), action))
    }
    return found
  }

  private func rule(
    _ pattern: [UInt8], _ action: MigrationRule.Action
  ) throws(Failure) -> MigrationRule {
    guard let rule = MigrationRule(pattern: pattern, action: action) else {
      throw Failure(.usage, "a pattern has 1 to 255 bytes")
    }
    return rule
  }
}

/// Whether sources stay.
enum TransferMode: String, EnumerableFlag {
  case copy
  case move
}

/// A pattern, and where among all options it was given: patterns of different options are tried in
/// the order of the command line, which the parser does not hand on.
struct OrderedPattern: ExpressibleByArgument, Sendable {
  private static let count = Atomic<Int>(0)

  let path: PathArgument
  let order: Int

  init?(argument: String) {
    guard let path = PathArgument(argument: argument) else { return nil }
    self.path = path
    order = Self.count.add(1, ordering: .relaxed).newValue
  }
}

/// `VAULT` or `VAULT:PATH`.
struct MigrationTarget {
  let vault: PathArgument
  let names: [[UInt8]]

  init(_ argument: PathArgument) throws {
    if try MountTable.scrimMount(at: argument.absolute) != nil {
      throw Failure(
        .mountPointUnusable,
        "\(argument.text) is a mount: unmount it and name the vault")
    }
    let bytes = argument.bytes
    for cut in bytes.indices where bytes[cut] == UInt8(ascii: ":") {
      let vault = PathArgument(bytes: Array(bytes[..<cut]))
      guard cut > 0, (try? Vault.inspect(at: vault.text)) != nil else { continue }
      self.vault = vault
      names = Self.names(bytes[(cut + 1)...])
      return
    }
    _ = try argument.inspectVault()
    vault = argument
    names = []
  }

  static func names(_ path: ArraySlice<UInt8>) -> [[UInt8]] {
    let parts = path.split(separator: UInt8(ascii: "/")).map { Array($0) }
    return parts.filter { $0 != [UInt8(ascii: ".")] }
  }
}

/// Runs a step whose failure ends the command.
func transferring<R>(_ body: () throws(TransferError) -> R) throws -> R {
  do throws(TransferError) {
    return try body()
  } catch .vault(let error) {
    throw error
  } catch {
    throw Failure(.system, error.text)
  }
}
