import ArgumentParser
import Container
import Glibc
import Primitives
import SystemPackage
import Vault

struct MarkCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mark",
    abstract: "Set how new files in a mounted directory are stored.",
    discussion: """
      The policy holds for files and directories made from now on; what is there stays as it is. \
      The same as: setfattr -n user.scrim.policy -v POLICY DIR
      """)

  @Argument(help: "A directory of a mounted vault.")
  var directory: PathArgument

  @Option(help: "How content is stored: plain, sealed, compressed or sealed-compressed.")
  var content: ContentPolicy

  @Option(help: "How names are stored: sealed or plain. Only an empty directory can change this.")
  var names: NamePolicy?

  func run() throws {
    let descriptor = open(directory.terminated, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw Failure(
        MountAttribute.openFailure(errno),
        "\(directory.text): \(MountAttribute.openReason(errno))")
    }
    defer { close(descriptor) }

    // Elsewhere the attribute would be stored as any other, and mean nothing.
    guard try MountTable.isInScrimMount(descriptor) else {
      throw Failure(.notMounted, "\(directory.text) is not in a mounted vault")
    }
    var policy = content.name
    if let names { policy += ",names=\(names.name)" }
    do {
      try Sys.fsetxattr(descriptor, MountAttribute.policy, Array(policy.utf8))
    } catch {
      throw Failure(exit(for: error.rawValue), message(for: error.rawValue))
    }
  }

  private func exit(for code: Int32) -> Exit {
    switch code {
    case ENOTEMPTY: .notEmpty
    default: .system
    }
  }

  private func message(for code: Int32) -> String {
    switch code {
    case ENOTEMPTY:
      "\(directory.text) is not empty: how names are stored can only change before there are any"
    case EROFS: "\(directory.text) is in a vault that is mounted read-only"
    case EPERM, EACCES: "only the owner of \(directory.text) may change its policy"
    default: "the policy of \(directory.text) could not be set: \(Output.errnoText(code))"
    }
  }
}
