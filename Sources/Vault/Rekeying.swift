public import Logging
import Primitives
import SystemPackage

/// A vault whose master key is being replaced (format §12): what is still to be taken over, and beside it, in
/// the same folder, a vault of its own with what has another key already.
///
/// At any moment each entry is whole in one of the two. Moving entries is up to the caller.
public struct Rekeying: Sendable {
  /// The vault as it was; entries leave it.
  public let old: Vault
  /// Where they go.
  public let new: Vault
  private let secret: VaultSecret

  /// Begins to replace a vault's master key, or goes on where an earlier run was cut short.
  ///
  /// The new key is wrapped by `secret` alone; other slots would need secrets that are not at hand.
  ///
  /// - Parameters:
  ///   - path: The backing folder of a vault that nobody has open for writing.
  ///   - secret: Opens one of the key slots.
  ///   - logger: Hears of damage and refusals.
  /// - Returns: The two vaults; nil where nothing was left to do but the last step, which is done.
  /// - Throws: `.wrongSecret`, also for one that is not that of the earlier run; `.locked`, `.damaged`, `.system`.
  public static func begin(
    at path: String, secret: VaultSecret, logger: Logger
  ) throws(VaultError) -> Rekeying? {
    let base = try Vault.openFolder(path)
    if try state(in: base.rawValue) == .switching {
      // Whoever may finish it is whoever has the new key.
      _ = try HeaderFile.load(in: base.rawValue).unlock(secret)
      let lock = try VaultLock.acquireWriter(in: base.rawValue)
      defer { withExtendedLifetime(lock) {} }
      try switchOver(base.rawValue)
      return nil
    }
    let old = try Vault.open(
      at: path, secret: secret, access: .readWrite, logger: logger, isPart: true)
    do throws(VaultError) {
      if try state(in: base.rawValue) == .none { try prepare(old, base.rawValue, secret) }
      let new = try Vault.open(
        at: "\(path)/\(Format.rekeyText)", secret: secret, access: .readWrite, logger: logger)
      try requireSuccessor(new, of: old)
      return Rekeying(old: old, new: new, secret: secret)
    } catch {
      try? old.close()
      throw error
    }
  }

  /// Leaves the vault as it is between two runs.
  ///
  /// - Throws: `.system`.
  public func interrupt() throws(VaultError) {
    try new.close()
    try old.close()
  }

  /// Makes the new vault the vault; from here on the old master key opens nothing.
  ///
  /// - Parameter recovery: A new recovery key that is to open it, in the place of any earlier one of this change.
  /// - Throws: `.system` (`.directoryNotEmpty` while the old vault holds anything).
  public func finish(recovery: RecoveryKey) throws(VaultError) {
    guard try old.root.isEmpty() else {
      throw .system(.directoryNotEmpty, "what is left has the old master key")
    }
    try Vault.replaceRecoverySlots(at: new.path, unlockedBy: secret, with: recovery)
    try new.close()
    let base = old.context.base.rawValue
    try Rekeying.switchOver(base)
    try? old.close()
  }

  // MARK: What is in the folder

  /// How far a change of the master key has come.
  enum State {
    /// There is none.
    case none
    /// Entries are being moved.
    case moving
    /// All of them are; the new vault is taking the old one's place.
    case switching
  }

  static func state(in base: Int32) throws(VaultError) -> State {
    do throws(Errno) {
      _ = try Sys.statx(base, Format.rekeyName, fields: .type)
      let folder = try open(base, Format.rekeyName)
      do throws(Errno) {
        _ = try Sys.statx(folder.rawValue, Format.headerName, fields: .type)
        return .moving
      } catch .noSuchFileOrDirectory {
        return .switching
      }
    } catch .noSuchFileOrDirectory {
      return .none
    } catch {
      throw .system(error, "looking at \(Format.rekeyText)")
    }
  }

  private static func open(_ base: Int32, _ name: [UInt8]) throws(Errno) -> OwnedFD {
    try Sys.openat(base, name, [.readOnly, .directory, .noFollow])
  }

  /// Makes the new vault under another name first: under its own it is complete.
  private static func prepare(
    _ old: Vault, _ base: Int32, _ secret: VaultSecret
  ) throws(VaultError) {
    // Whoever adds a key waits, and then finds that it would be of no use.
    let lock = try VaultLock.acquireHeaderEditor(in: base)
    defer { withExtendedLifetime(lock) {} }
    let header = try HeaderFile.load(in: base)
    let slot = header.slots[try header.unlock(secret).slot]
    try attempt("removing what an interrupted run has left") { () throws(Errno) in
      try removeUnfinished(base)
    }
    let record = old.root.record
    try Vault.create(
      at: "\(old.path)/\(Format.newRekeyText)",
      slots: [SlotRequest(secret: secret, label: slot.label)], content: record.content,
      names: record.names, cost: KeyCost(of: slot), suite: header.suite, vaultID: header.vaultID)
    try writeSuccessor(old.context.keys, base, secret)
    try attempt("naming \(Format.rekeyText)") { () throws(Errno) in
      try giveOwner(of: Format.headerName, in: base, Format.newRekeyName)
      try Sys.renameat2(base, Format.newRekeyName, base, Format.rekeyName)
      try Sys.fsync(base)
    }
  }

  // MARK: Whose successor it is

  /// Whoever has learnt an earlier master key could put a vault with that one into the folder: only who has both
  /// keys can make this.
  private static func successor(of old: MasterKeys, _ new: MasterKeys) -> [UInt8] {
    KeyDerivation.hmacSHA256(
      key: old.headerMAC,
      message: Format.successorInfo + new.headerMAC.withUnsafeBytes { [UInt8]($0) })
  }

  private static func writeSuccessor(
    _ old: MasterKeys, _ base: Int32, _ secret: VaultSecret
  ) throws(VaultError) {
    let folder = try attempt("opening \(Format.newRekeyText)") { () throws(Errno) in
      try open(base, Format.newRekeyName)
    }
    let bytes = successor(of: old, try HeaderFile.load(in: folder.rawValue).unlock(secret).keys)
    try attempt("writing scrim.successor") { () throws(Errno) in
      let file = try Sys.openat(
        folder.rawValue, Format.successorName, [.writeOnly, .create, .truncate, .noFollow],
        mode: 0o644)
      try bytes.withUnsafeBytesTyped { (buffer) throws(Errno) in
        try Sys.pwrite(file.rawValue, buffer, at: 0)
      }
      try Sys.fsync(file.rawValue)
      try Sys.fsync(folder.rawValue)
    }
  }

  /// Checks that a change of the master key was begun by somebody who has the key that is replaced.
  ///
  /// - Parameters:
  ///   - new: What is in the other one's folder.
  ///   - old: The vault.
  /// - Throws: `.damaged` if it was not.
  public static func requireSuccessor(_ new: Vault, of old: Vault) throws(VaultError) {
    let stored: [UInt8]
    do throws(Errno) {
      let file = try Sys.openatWary(
        new.context.base.rawValue, Format.successorName, .readOnly)
      stored = try readWhole(file.rawValue, limit: 33)
    } catch .noSuchFileOrDirectory {
      stored = []
    } catch {
      throw .system(error, "reading scrim.successor")
    }
    guard ConstantTime.equal(stored, successor(of: old.context.keys, new.context.keys)) else {
      throw .damaged("\(Format.rekeyText) was put there by someone without the vault's key")
    }
  }

  /// What root makes in a user's vault is to stay that user's.
  private static func giveOwner(
    of model: [UInt8], in base: Int32, _ name: [UInt8]
  ) throws(Errno) {
    let owner = try Sys.statx(base, model)
    let folder = try open(base, name)
    guard owner.uid != (try Sys.fstatx(folder.rawValue)).uid else { return }
    for entry in [Format.headerName, Format.sessionName] {
      let file = try Sys.openat(folder.rawValue, entry, [.path, .noFollow])
      try Sys.fchownat(file.rawValue, uid: owner.uid, gid: owner.gid)
    }
    try Sys.fchownat(folder.rawValue, uid: owner.uid, gid: owner.gid)
  }

  private static func removeUnfinished(_ base: Int32) throws(Errno) {
    do throws(Errno) {
      let folder = try open(base, Format.newRekeyName)
      try? removeEmptyTree(folder.rawValue)
      for name in [
        Format.sessionName, Format.newHeaderName, Format.headerName, Format.successorName,
      ] {
        try? Sys.unlinkat(folder.rawValue, name)
      }
      try Sys.unlinkat(base, Format.newRekeyName, isDirectory: true)
    } catch .noSuchFileOrDirectory {
      // The ordinary case.
    }
  }

  // MARK: The last step

  /// Puts the new vault into the old one's place. Each part is done if its file is still in the new vault's folder,
  /// so whoever finds this cut short does it again.
  private static func switchOver(_ base: Int32) throws(VaultError) {
    try attempt("putting the new vault into place") { () throws(Errno) in
      let folder = try open(base, Format.rekeyName)
      try take(Format.headerName, from: folder.rawValue, to: base)
      if (try? Sys.statx(folder.rawValue, Format.treeName, fields: .type)) != nil {
        try removeEmptyTree(base)
      }
      try take(Format.treeName, from: folder.rawValue, to: base)
      try take(Format.sessionName, from: folder.rawValue, to: base)
      for name in [Format.lockName, Format.newHeaderName, Format.successorName] {
        try? Sys.unlinkat(folder.rawValue, name)
      }
      try Sys.unlinkat(base, Format.rekeyName, isDirectory: true)
      try Sys.fsync(base)
    }
  }

  private static func take(_ name: [UInt8], from folder: Int32, to base: Int32) throws(Errno) {
    do throws(Errno) {
      try Sys.renameat2(folder, name, base, name)
    } catch .noSuchFileOrDirectory {
      return
    }
    try Sys.fsync(base)
    try Sys.fsync(folder)
  }

  /// Removes `tree/` with nothing in it but what belongs to the directory itself.
  private static func removeEmptyTree(_ base: Int32) throws(Errno) {
    do throws(Errno) {
      let tree = try open(base, Format.treeName)
      let names = try Sys.entries(of: tree.rawValue).map { $0.name }
      guard names.allSatisfy(VaultDirectory.isReserved) else { throw .directoryNotEmpty }
      for name in names { try Sys.unlinkat(tree.rawValue, name) }
      try Sys.unlinkat(base, Format.treeName, isDirectory: true)
    } catch .noSuchFileOrDirectory {
      // Removed by an earlier run.
    }
  }
}

extension Vault {
  /// Tells a vault in two parts from a whole one.
  static func requireWhole(_ base: Int32) throws(VaultError) {
    if try Rekeying.state(in: base) != .none { throw .rekeying }
  }

  /// The folders of all the vaults that together are the vault in a folder: more than one while its master key is
  /// being replaced; those with the old key first.
  ///
  /// - Parameter path: The backing folder.
  /// - Returns: One path, or two.
  /// - Throws: `.rekeying` where only the last step of that is to be done; `.notAVault`, `.system`.
  public static func parts(of path: String) throws(VaultError) -> [String] {
    let base = try openFolder(path)
    defer { withExtendedLifetime(base) {} }
    switch try Rekeying.state(in: base.rawValue) {
    case .none: return [path]
    case .moving: return [path, "\(path)/\(Format.rekeyText)"]
    case .switching: throw .rekeying
    }
  }

  fileprivate static func replaceRecoverySlots(
    at path: String, unlockedBy secret: VaultSecret, with recovery: RecoveryKey
  ) throws(VaultError) {
    try editHeader(at: path, secret) { (header, keys, index) throws(VaultError) in
      let kept = header.slots[index]
      header.slots.removeAll { $0.kind == .recovery && $0 != kept }
      header.slots.append(
        try KeySlot(
          wrapping: keys.master, secret: .recovery(recovery), label: "", cost: .standard,
          vaultID: header.vaultID))
    }
  }
}
