import ArgumentParser

/// The command line: parsing, messages and exit codes; all work is done by the layers below.
@main
struct Scrim: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scrim",
    abstract: "A folder of ciphertext, mounted as an ordinary directory.",
    discussion: """
      Most of a vault is encrypted block by block. Directories marked plain are read and written \
      by the kernel straight on their backing files.
      """,
    version: Version.text,
    subcommands: [
      InitCommand.self, MountCommand.self, UmountCommand.self, MarkCommand.self,
      ConvertCommand.self,
      StatusCommand.self, MountsCommand.self, PathCommand.self, LockCommand.self, LsCommand.self,
      CatCommand.self, InfoCommand.self,
      KeyCommand.self, CheckCommand.self, MigrateCommand.self, ExportCommand.self,
      AuditCommand.self, DoctorCommand.self, BenchCommand.self,
    ])

  /// The parser takes a mistyped command for an argument too many, and says no more.
  private static func checkCommand() throws(Failure) {
    guard let word = CommandLine.arguments.dropFirst().first, !word.hasPrefix("-") else { return }
    let known = configuration.subcommands.flatMap { command in
      [command.configuration.commandName ?? ""] + command.configuration.aliases
    }
    guard word != "help", !known.contains(word) else { return }
    let near = Guess.word(near: word, among: known).map { "; did you mean '\($0)'?" } ?? ""
    throw Failure(
      .usage, "there is no command '\(StatusText.safe(word))'\(near); 'scrim --help' lists them")
  }

  static func main() {
    do {
      try MountHelper.takeOver()
      try checkCommand()
      var command = try parseAsRoot()
      try command.run()
    } catch {
      guard let failure = Failure(describing: error) else { exit(withError: error) }
      Output.complain(failure.message)
      exit(withError: failure.exit.code)
    }
  }
}
