import ArgumentParser
import Glibc
import Primitives
import SystemPackage

struct PathCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "path",
    abstract: "Tell where something in a mount lies in the vault's folder, or the other way round.",
    discussion: """
      One line for each path. For excludes of backup and sync programs, and to find the file behind \
      a message that names a backing path. With --vault nothing has to be mounted: paths in the \
      vault then begin at its root.
      """)

  @Argument(help: "Paths in a mount or vault; with --reverse, paths in the vault's folder.")
  var paths: [PathArgument]

  @Option(
    help: ArgumentHelp("Read this vault, mounted or not, with its passphrase.", valueName: "vault"))
  var vault: PathArgument?

  @OptionGroup(title: "What opens the vault") var secrets: SecretOptions

  @Flag(name: [.short, .long], help: "From the vault's folder to the mount.")
  var reverse = false

  @Flag(name: [.customShort("0"), .long], help: "End each line with a zero byte.")
  var null = false

  func run() throws {
    let offline = try vault.map { try OfflinePath($0, secrets) }
    for path in paths {
      try Output.write(try find(path, offline) + [null ? 0 : UInt8(ascii: "\n")])
    }
  }

  private func find(_ path: PathArgument, _ offline: OfflinePath?) throws -> [UInt8] {
    if let offline { return try reverse ? offline.plain(path) : offline.backing(path) }
    return reverse ? try MountedPath.find(backing: path) : try backing(path)
  }

  private func backing(_ path: PathArgument) throws(Failure) -> [UInt8] {
    let node: SharedFD
    do {
      node = SharedFD(try Sys.openat(Sys.currentDirectory, path.bytes, [.path, .noFollow]))
    } catch {
      let code = error.rawValue
      throw Failure(
        MountAttribute.openFailure(code), "\(path.text): \(MountAttribute.openReason(code))")
    }
    return try withExtendedLifetime(node) { node throws(Failure) in
      try backing(path, node.rawValue)
    }
  }

  private func backing(_ path: PathArgument, _ node: Int32) throws(Failure) -> [UInt8] {
    guard try MountTable.isInScrimMount(node) else {
      throw try NotMounted.inside(path)
    }
    do {
      return try Sys.getxattrPath(node, MountAttribute.path)
    } catch {
      // The kernel allows attributes of this kind on files and directories only.
      let reason =
        error.rawValue == EPERM || error.rawValue == ENODATA
        ? "only files and directories can be asked for" : Output.errnoText(error.rawValue)
      throw Failure(.system, "\(path.text): its place in the vault is not known: \(reason)")
    }
  }
}

/// From backing paths to paths in a mount, by inode numbers: those of a mount are those of the backing files.
enum MountedPath {
  private static let slash = UInt8(ascii: "/")

  static func find(backing path: PathArgument) throws(Failure) -> [UInt8] {
    var status = stat()
    guard lstat(path.terminated, &status) == 0 else {
      throw Failure(
        MountAttribute.openFailure(errno), "\(path.text): \(Output.errnoText(errno))")
    }
    // The path itself may be a link of the vault, which must not be followed.
    let parts = path.bytes.split(separator: slash)
    let isTree = path.bytes.last == slash || parts.last == ArraySlice("tree".utf8)
    let absolute = isTree ? path.absolute : Self.absolute(path)
    for mount in try MountTable.read() where mount.isScrim && mayBe(absolute, of: mount) {
      guard let tree = tree(of: mount),
        absolute == tree || absolute.starts(with: tree + [slash])
      else { continue }
      return try descend(absolute.dropFirst(tree.count), below: tree, in: mount.point, path)
    }
    throw Failure(
      .notMounted,
      "\(path.text) is in no vault that is mounted here; --vault looks into one that is not")
  }

  /// From the root, with the last name as it is: it may be a link of the vault.
  static func absolute(_ path: PathArgument) -> [UInt8] {
    guard let last = path.bytes.lastIndex(of: slash) else {
      return PathArgument(bytes: Array(".".utf8)).absolute + [slash] + path.bytes
    }
    let parent = last == 0 ? [slash] : Array(path.bytes[..<last])
    return PathArgument(bytes: parent).absolute + path.bytes[last...]
  }

  /// By what the mount table says, so that no other mount is asked, which may hang; one with a name of its own may be any.
  private static func mayBe(_ path: [UInt8], of mount: MountEntry) -> Bool {
    mount.source.first != slash || path.starts(with: mount.source + [slash])
  }

  /// The backing folder of a mount's root; nil where its daemon does not answer.
  private static func tree(of mount: MountEntry) -> [UInt8]? {
    let root = open(
      PathArgument(bytes: mount.point).terminated, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard root >= 0 else { return nil }
    defer { close(root) }
    return try? Sys.getxattrPath(root, MountAttribute.path)
  }

  private static func descend(
    _ rest: ArraySlice<UInt8>, below tree: [UInt8], in point: [UInt8], _ path: PathArgument
  ) throws(Failure) -> [UInt8] {
    var backing = tree
    var found = point
    for part in rest.split(separator: slash) {
      backing += [slash] + part
      var status = stat()
      let name =
        lstat(PathArgument(bytes: backing).terminated, &status) == 0
        ? name(of: status.st_ino, in: found) : nil
      guard let name else {
        throw Failure(.notFound, "\(path.text) stands for nothing in the mount")
      }
      found += [slash] + name
    }
    return found
  }

  private static func name(of inode: ino_t, in folder: [UInt8]) -> [UInt8]? {
    guard let directory = opendir(PathArgument(bytes: folder).terminated) else { return nil }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      guard entry.pointee.d_ino == inode else { continue }
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
      if name != Array("..".utf8), name != Array(".".utf8) { return name }
    }
    return nil
  }
}
