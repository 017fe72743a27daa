import Glibc
import Logging
import Migration
import Primitives
import Vault

/// `scrim convert --rekey`: everything in a vault gets a new master key.
struct Rekey {
  let path: PathArgument
  /// Whether keys whose secrets are not at hand may go.
  let dropsKeys: Bool
  let recoveryFile: PathArgument?
  let json: Bool

  func run(_ secrets: SecretOptions) throws {
    if try MountTable.scrimMount(at: path.absolute) != nil {
      throw Failure(.mountPointUnusable, "\(path.text) is a mount: unmount it and name the vault")
    }
    let header = try path.inspectVault()
    if let recoveryFile, access(recoveryFile.terminated, F_OK) == 0 {
      throw Failure(
        .notEmpty, "the recovery file \(recoveryFile.text) exists already and is not written over")
    }
    let secret = try secrets.secret(for: path)
    let slot = try Patience.during("opening the vault") { try header.unlock(secret).slot }
    try confirm(header, kept: slot)
    try LogDestination.standardError.install(level: .error)
    _ = try? Sys.raiseDescriptorLimit()
    // From here on an interrupt ends it between two files.
    let progress = TransferProgress(json: json)
    let begun = try Patience.during("opening the vault") {
      try Rekeying.begin(at: path.text, secret: secret, logger: Logger(label: "scrim.vault"))
    }
    guard let rekeying = begun else { return try tell() }
    let end = try transferring { () throws(TransferError) in
      try Rekeyer(rekeying, observer: progress.observer).run()
    }
    let isDone = try finish(rekeying, end)
    try progress.finish(end)
    if isDone { try tell() }
  }

  /// A slot's new key would have to be wrapped by a secret that is not here.
  private func confirm(_ header: VaultHeader, kept: Int) throws(Failure) {
    guard !dropsKeys else { return }
    let lost = header.slots.indices.filter { $0 != kept && header.slots[$0].kind != .recovery }
    guard !lost.isEmpty else { return }
    let list = lost.map { "slot \($0), \(SlotFacts(header.slots[$0]).text)" }
    throw Failure(
      .usage,
      "only the key given here will open the vault afterwards, and a new recovery key; gone would be "
        + "\(list.joined(separator: "; ")). With --yes they go, and 'scrim key add' adds them anew")
  }

  /// - Returns: Whether the vault has its new key.
  private func finish(_ rekeying: Rekeying, _ end: MigrationEnd) throws -> Bool {
    guard case .complete = end, try rekeying.old.root.isEmpty() else {
      try rekeying.interrupt()
      return false
    }
    // Shown before it counts: the other way round it could be lost.
    let recovery = RecoveryKey.random()
    if let recoveryFile {
      _ = try RecoveryFile(recoveryFile, recovery)
    } else {
      try Output.line(
        "the new recovery key, shown only now (print it, keep it apart from the vault):")
      try Output.line("  \(recovery.text)")
    }
    try rekeying.finish(recovery: recovery)
    return true
  }

  private func tell() throws(Failure) {
    guard !json else { return }
    try Output.line("the vault has a new master key; old copies of it still open with the old one")
  }
}
