public import Logging
public import Vault
import CFuse
import Glibc
import Primitives
import Synchronization
import SystemPackage

/// Mounting a vault.
public enum Mount {
  /// libfuse's name and version.
  public static var library: String {
    fuse_pkgversion().map { "libfuse \(String(cString: $0))" } ?? "libfuse"
  }

  /// Whether a directory can be mounted on, before anything else is done.
  ///
  /// - Parameters:
  ///   - path: the mount point.
  ///   - options: how to mount.
  /// - Throws: `MountError`, with the reason.
  public static func check(mountPoint path: String, options: SessionOptions) throws(MountError) {
    _ = try MountPoint.check(path, options: options)
  }

  /// Mounts `vault` and serves it until it is unmounted.
  ///
  /// When this returns, every file is committed and synced, and nothing uses the vault any more; closing it
  /// is left to the caller, as opening it was.
  ///
  /// - Parameters:
  ///   - vault: opened for reading and writing, unless `options` say read-only.
  ///   - root: what of it to mount; nil is all of it.
  ///   - mountPoint: a directory.
  ///   - options: how to mount.
  ///   - logger: for everything this mount has to say.
  ///   - onReady: called once, when the mount can be used, with what the user should know, a line each.
  /// - Throws: `MountError` with nothing left mounted.
  public static func run(
    vault: Vault, root: VaultDirectory? = nil, mountPoint: String, options: SessionOptions,
    logger: Logger,
    onReady: ([String]) -> Void
  ) throws(MountError) {
    Session.blockTerminationSignals()
    // Modes are what the kernel says, with the caller's umask applied by us.
    umask(0)
    _ = try? Sys.raiseDescriptorLimit()
    let isReadOnly = options.readOnly || vault.access == .readOnly
    var options = options
    options.readOnly = isReadOnly
    let probe = openProbe(vault, isReadOnly: isReadOnly)
    options.passthroughProbe = options.passthroughProbe ?? probe?.rawValue
    options.vaultFolder = vault.path
    let fileSystem = try makeFileSystem(vault, root ?? vault.root, options, logger)
    let maintenance = try Session.start("scrim-sync") { fileSystem.maintain() }
    defer {
      fileSystem.maintenance.stop()
      maintenance.join()
      fileSystem.settleEverything()
    }
    let session = try Session(
      mountPoint: mountPoint, options: options,
      operations: Operations.table(leavingPermissions: options.leavesPermissions),
      userdata: Unmanaged.passUnretained(fileSystem).toOpaque(), logger: logger)
    fileSystem.registry.withLock { $0 = session.backing }
    let idle = try startIdleWatch(fileSystem, session, options)
    defer { idle?.end() }
    let converting = try Session.start("scrim-convert") { fileSystem.convert(session) }
    defer {
      fileSystem.conversions.stop()
      converting.join()
    }
    var callersFirst: Lookout?
    defer { callersFirst?.end() }
    let end = try session.run { negotiated in
      fileSystem.facts.withLock { facts in
        facts = MountFacts(mountPoint: session.mountPoint, negotiated: negotiated)
      }
      onReady(vault.notices + notes(negotiated, options))
      // Threads that read the device run anywhere, so it makes no difference to them.
      guard case .rings = negotiated.transport else { return }
      callersFirst = CallersFirst.start(fileSystem)
    }
    withExtendedLifetime(probe) {}
    logger.info("\(session.mountPoint): \(describe(end))")
  }

  /// Passthrough is tried with the vault's header, which every vault has.
  private static func openProbe(_ vault: Vault, isReadOnly: Bool) -> SharedFD? {
    let path = [UInt8]("\(vault.path)/scrim.vault".utf8)
    let flags: Primitives.OpenFlags = isReadOnly ? .readOnly : .readWrite
    do {
      return SharedFD(try Sys.openat(Sys.currentDirectory, path, flags))
    } catch {
      // Passthrough is then off, and the notes say why.
      return nil
    }
  }

  private static func makeFileSystem(
    _ vault: Vault, _ root: VaultDirectory, _ options: SessionOptions, _ logger: Logger
  ) throws(MountError) -> FileSystem {
    let isReadOnly = options.readOnly
    // A reader is not alone: somebody may write the vault meanwhile.
    let exclusive: Double = isReadOnly ? 1 : 120
    let timeouts = Timeouts(exclusive: exclusive, shared: 1, negative: isReadOnly ? 0 : 5)
    do {
      return try FileSystem(
        vault: vault, root: root, owners: options.owners, timeouts: timeouts,
        isReadOnly: isReadOnly, gathersWrites: options.writeback && !isReadOnly,
        isRootsAlone: !options.leavesPermissions, log: logger)
    } catch let error as Errno {
      throw .io("reading the vault's root", error)
    } catch {
      throw .refused("the vault's root cannot be read: \(error)")
    }
  }

  private static func startIdleWatch(
    _ fileSystem: FileSystem, _ session: Session, _ options: SessionOptions
  ) throws(MountError) -> Lookout? {
    guard let limit = options.idleMilliseconds else { return nil }
    do {
      return try IdleWatch.start(fileSystem, session, limit: limit)
    } catch {
      throw .io("starting a thread", error)
    }
  }

  /// What the user should know about this mount, and nothing when all is as it should be.
  private static func notes(_ negotiated: Negotiated, _ options: SessionOptions) -> [String] {
    var notes: [String] = []
    if let servant = options.servant {
      let others = options.allowRoot ? "root and nobody else" : "nobody else, root included,"
      notes.append(
        "the mount is \(servant.name)'s, as the vault is; \(others) may enter (see 'Started by root' "
          + "in scrim(1))")
    }
    if options.passthrough, !options.writeback,
      case .unavailable(let reason) = negotiated.passthrough
    {
      notes.append(
        "plain files are served in user space, without kernel passthrough: \(reason)")
    }
    return notes
  }

  private static func describe(_ end: SessionEnd) -> String {
    switch end {
    case .unmounted: "unmounted"
    case .signalled(let signal): "unmounted after signal \(signal)"
    case .stopped: "unmounted on request"
    }
  }
}
