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

  static func main() {
    do {
      try MountHelper.takeOver()
      var command = try parseAsRoot()
      try command.run()
    } catch {
      guard let failure = Failure(describing: error) else { exit(withError: error) }
      Output.complain(failure.message)
      exit(withError: failure.exit.code)
    }
  }
}
