import ArgumentParser
import Primitives

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
    var commands = configuration.subcommands
    var path = "scrim"
    for word in CommandLine.arguments.dropFirst() {
      guard !commands.isEmpty, !word.hasPrefix("-") else { return }
      if word == "help", path == "scrim" { continue }
      guard let command = commands.first(where: { names(of: $0).contains(word) }) else {
        let near = Guess.word(near: word, among: commands.flatMap(names))
        throw Failure(
          .usage,
          "there is no command '\(path.dropFirst(6))\(path == "scrim" ? "" : " ")\(StatusText.safe(word))'; "
            + (near.map { "did you mean '\($0)'? " } ?? "") + "'\(path) --help' lists them")
      }
      path += " \(word)"
      commands = command.configuration.subcommands
    }
  }

  private static func names(of command: any ParsableCommand.Type) -> [String] {
    [command.configuration.commandName ?? ""] + command.configuration.aliases
  }

  static func main() {
    // Keys and passphrases stay out of core dumps, and away from other processes of the same user.
    try? Sys.setDumpable(false)
    do {
      try MountHelper.takeOver()
      try checkCommand()
      var command = try parseAsRoot()
      try command.run()
    } catch {
      guard let failure = Failure(describing: error) else {
        guard let text = UsageError.text(for: error) else { exit(withError: error) }
        Output.complain(lines: text)
        exit(withError: Exit.usage.code)
      }
      Output.complain(failure.message)
      exit(withError: failure.exit.code)
    }
  }
}
