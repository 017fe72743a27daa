import Container
public import Logging
import Primitives
import SystemPackage

extension Vault {
  /// Opens a vault to be checked, also one that `open` refuses.
  ///
  /// - Parameters:
  ///   - path: The backing folder.
  ///   - secret: Opens one of the key slots.
  ///   - options: With `repairs` the vault is opened for writing, otherwise nothing is changed.
  ///   - logger: Hears of damage and refusals as they are met.
  ///   - isLeaving: As for `open`.
  /// - Returns: The vault, and what opening it found.
  /// - Throws: `.notAVault`, `.wrongSecret`, `.damaged` for its header, `.system`, and with
  ///   `repairs` `.locked`.
  public static func openForCheck(
    at path: String, secret: VaultSecret, options: CheckOptions, logger: Logger,
    isLeaving: (Int32) -> Bool = { _ in false }
  ) throws(VaultError) -> CheckedVault {
    let base = try openFolder(path)
    let rekeying = try Rekeying.state(in: base.rawValue)
    // The header is the new one already, the rest is not.
    if rekeying == .switching { throw .rekeying }
    let header = try HeaderFile.load(in: base.rawValue)
    let keys = try header.unlock(secret).keys
    var writer: String?
    var lock: VaultLock?
    do throws(VaultError) {
      lock = try VaultLock.acquireWriter(in: base.rawValue, isLeaving: isLeaving)
    } catch .locked(let holder) where !options.repairs {
      writer = holder
    } catch .system where !options.repairs {
      // A medium that cannot be written has no writers.
    }
    var findings: [CheckFinding] = []
    let quarantine = Quarantine(base: base, name: options.lostAndFound)
    let session = try openSession(base, keys, options, quarantine, &findings)
    if writer == nil { checkLeftovers(base, options, quarantine, &findings) }
    if rekeying == .moving {
      findings.append(
        CheckFinding(
          severity: .harmless, path: Format.rekeyName,
          reason:
            "a change of the master key was cut short; only what still has the old one is checked",
          outcome: .left))
    }
    let context = VaultContext(
      keys: keys, session: session, access: options.repairs ? .readWrite : .readOnly, base: base,
      logger: logger, workspace: Workspace(), descriptorLimit: 256)
    var vault: Vault?
    do throws(VaultError) {
      let root = try VaultDirectory.openRoot(context)
      vault = Vault(path: path, header: header, root: root, context: context, lock: lock)
    } catch .damaged(let reason) {
      findings.append(
        CheckFinding(severity: .damage, path: rootPath, reason: reason, outcome: .left))
    } catch .system(.noSuchFileOrDirectory, _) {
      findings.append(
        CheckFinding(
          severity: .damage, path: Format.treeName, reason: "the folder is missing",
          outcome: .left))
    }
    return CheckedVault(vault: vault, writer: writer, findings: findings, base: base)
  }

  private static var rootPath: [UInt8] { [UInt8(ascii: "/")] }

  private static func openSession(
    _ base: SharedFD, _ keys: MasterKeys, _ options: CheckOptions, _ quarantine: Quarantine,
    _ findings: inout [CheckFinding]
  ) throws(VaultError) -> SessionFile {
    let reason: String
    do throws(VaultError) {
      return options.repairs
        ? try SessionFile.begin(in: base.rawValue, keys: keys)
        : try SessionFile.observe(in: base.rawValue, keys: keys)
    } catch .damaged(let text) {
      reason = text
    }
    var outcome = CheckOutcome.left
    if options.repairs {
      if (try? Sys.statx(base.rawValue, Format.sessionName, fields: .type)) != nil {
        _ = try quarantine.take(Format.sessionName, from: base.rawValue, id: nil)
      }
      // What the lost windows excused is from now on damage.
      let number = UInt64(max(0, Sys.realtime().seconds))
      try SessionFile.create(in: base.rawValue, keys: keys, session: number)
      outcome = .repaired("made anew; what a crash left torn before is reported as damage")
    }
    findings.append(
      CheckFinding(
        severity: .damage, path: Format.sessionName, reason: reason, outcome: outcome))
    return options.repairs
      ? try SessionFile.begin(in: base.rawValue, keys: keys) : SessionFile.unknown(keys: keys)
  }

  private static func checkLeftovers(
    _ base: SharedFD, _ options: CheckOptions, _ quarantine: Quarantine,
    _ findings: inout [CheckFinding]
  ) {
    guard (try? Sys.statx(base.rawValue, Format.newHeaderName, fields: .type)) != nil else {
      return
    }
    var outcome = CheckOutcome.left
    if options.repairs {
      do throws(VaultError) {
        let place = try quarantine.take(Format.newHeaderName, from: base.rawValue, id: nil)
        outcome = .repaired("moved to \(place)")
      } catch {
        outcome = .failed("\(error)")
      }
    }
    findings.append(
      CheckFinding(
        severity: .harmless, path: Format.newHeaderName,
        reason: "left over from an interrupted change of keys", outcome: outcome))
  }
}
