import ArgumentParser
import FoundationEssentials
import Glibc
import Primitives
import SystemPackage
import Vault

struct AuditCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "audit",
    abstract: "What would a thief see? What of a vault can be read without a key.",
    discussion: """
      Without a passphrase it looks at the vault's folder as anyone can. With --owner it asks for \
      the passphrase (or takes one of the options), shows real names, and says which directories \
      hold what their policies say. Changes nothing, and works beside a mount.
      """)

  @Argument(help: "The folder of a vault, or where it is mounted.")
  var vault: PathArgument

  @Flag(help: "Look with a key; implied by the options that name one.")
  var owner = false

  @Option(help: "How many levels of directories the text shows.")
  var depth = 3

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  @Option(
    help: ArgumentHelp("Also write a page with a map of the vault.", valueName: "file"))
  var html: PathArgument?

  @OptionGroup var secrets: SecretOptions

  func run() throws {
    let folder = try vaultFolder()
    _ = try folder.inspectVault()
    guard try Vault.parts(of: folder.text).count == 1 else { throw VaultError.rekeying }
    let isOwner = owner || secrets.isGiven
    let root: AuditNode
    if isOwner {
      root = try AuditOwner.run(try VaultReader(folder, secrets).vault)
    } else {
      root = try AuditScan.run(vault: folder)
    }
    let name = String(decoding: folder.absolute, as: UTF8.self)
    if let html { try write(AuditPage(root, vault: name, isOwner: isOwner).text, to: html) }
    if json { return try Output.write(try AuditReport.json(root, vault: name, isOwner: isOwner)) }
    let width = Screen.size(STDOUT_FILENO)?.columns
    for (index, line) in AuditReport.lines(root, depth: depth).enumerated() {
      // The sentence, and the tables below it.
      try Output.line(
        index == 0 ? line.wrapped(to: width, indent: 2) : line.fitted(to: width ?? .max))
    }
  }

  private func vaultFolder() throws(Failure) -> PathArgument {
    guard try MountTable.scrimMount(at: vault.absolute) != nil else { return vault }
    let status = try MountAttribute.readStatus(of: vault)
    guard let report = try? JSONDecoder().decode(MountPointReport.self, from: Data(status)) else {
      throw Failure(.system, "the daemon of \(vault.text) is of another version; name the vault")
    }
    return PathArgument(bytes: Array(report.vault.utf8))
  }

  private func write(_ text: String, to path: PathArgument) throws(Failure) {
    let file = open(path.terminated, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw Failure(.system, "\(path.text): \(Output.errnoText())") }
    defer { close(file) }
    let isWritten = Array(text.utf8).withUnsafeBytes { Descriptor.writeAll(file, $0) }
    guard isWritten else { throw Failure(.system, "\(path.text): \(Output.errnoText())") }
  }
}
