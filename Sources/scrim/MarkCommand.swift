import ArgumentParser
import Container
import Glibc
import Migration
import Primitives
import SystemPackage
import Vault

struct MarkCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mark",
    abstract: "Set how new files in a mounted directory are stored, or one file.",
    discussion: """
      What is set for a directory holds for files and directories made in it from now on; what is \
      there stays as it is unless --convert is given. A rule decides by the name a file is made \
      with, the first that matches; a rename keeps the mode. An empty file changes its mode at \
      once.
      """)

  @Argument(help: "A directory or file of a mounted vault.")
  var path: PathArgument

  @Option(help: "How content is stored: plain, sealed, compressed or sealed-compressed.")
  var content: ContentPolicy?

  @Option(help: "How names are stored: sealed or plain. Only an empty directory can change this.")
  var names: NamePolicy?

  @Option(
    help: ArgumentHelp(
      "Store new files with such names otherwise: '*.mp4=plain'. '*' stands for any bytes, '?' "
        + "for one. Comes after the rules that are there, or changes the one of this pattern.",
      valueName: "glob=policy"))
  var rule: [RuleArgument] = []

  @Option(help: ArgumentHelp("Take the rule of this pattern away.", valueName: "glob"))
  var removeRule: [PathArgument] = []

  @Flag(help: "Take all rules away before others are added.")
  var clearRules = false

  @Flag(help: "Also all directories in it.")
  var recursive = false

  @Flag(help: "Convert the files that are there, as 'scrim convert' does.")
  var convert = false

  @OptionGroup var conversion: ConversionOptions

  @Flag(help: "Say how new files are stored, or how this file is.")
  var show = false

  @Flag(help: "With --show and --convert, print JSON; docs/cli.md describes it.")
  var json = false

  private var changesRules: Bool { !rule.isEmpty || !removeRule.isEmpty || clearRules }
  private var changes: Bool { content != nil || names != nil || changesRules }

  func validate() throws {
    guard changes || convert || show else {
      throw ValidationError("nothing to set: --content, --names, --rule, --convert or --show")
    }
    guard !show || !(changes || convert) else {
      throw ValidationError("--show changes nothing")
    }
    guard convert || !(conversion.wait || conversion.discard) else {
      throw ValidationError("--wait and --discard belong to --convert")
    }
  }

  func run() throws {
    // Elsewhere the attributes would be stored as any other, and mean nothing.
    guard let place = try LivePlace.open(path) else {
      throw try NotMounted.inside(path)
    }
    if let name = place.name { return try markFile(place, name) }
    if show { return try Policies(json: json).show(place, recursive: recursive) }
    try LiveTree.walk(place.folder, place.path, recursive: recursive) { path, entry in
      switch entry {
      case .directory(let folder): try mark(folder, path)
      case .file: return recursive
      case .unreadable(let error):
        throw Failure(.system, "\(text(path)): \(Output.errnoText(error.rawValue))")
      }
      // Where only one directory is meant, the walk ends with it.
      return recursive
    }
    if convert { try convertFiles(place, policy: nil) }
  }

  // MARK: A file

  private func markFile(_ place: LivePlace, _ name: [UInt8]) throws {
    if show { return try Policies(json: json).show(place, name) }
    guard let content, names == nil, !changesRules, !recursive else {
      throw Failure(.usage, "\(path.text) is a file: only its --content can be set")
    }
    let status = try Sys.statx(place.folder.rawValue, name)
    guard status.kind == .regular else {
      throw Failure(.usage, "\(path.text) is neither a file nor a directory")
    }
    guard status.size == 0 || convert else {
      throw Failure(.usage, "\(path.text) is not empty: --convert stores its content anew")
    }
    try convertFiles(place, policy: content)
  }

  private func convertFiles(_ place: LivePlace, policy: ContentPolicy?) throws {
    let progress = TransferProgress(json: json)
    let conversion = LiveConversion(
      ConversionGoal(policy: policy, discards: conversion.discard), waits: conversion.wait,
      observer: progress.observer)
    conversion.take(place, recursive: recursive)
    try progress.finish(conversion.finish())
  }

  // MARK: A directory

  private func mark(_ folder: SharedFD, _ path: [UInt8]) throws {
    if content != nil || names != nil {
      let policy = [content?.name, names.map { "names=\($0.name)" }].compactMap { $0 }
      try set(MountAttribute.policy, Array(policy.joined(separator: ",").utf8), folder, path)
    }
    if changesRules {
      let rules = try edited(try Policies.rules(folder, path), path)
      let value = rules.flatMap { $0.pattern + Array("=\($0.policy.name)\n".utf8) }
      // Some kernels take a value without a byte for a removal.
      try set(MountAttribute.rules, value.isEmpty ? [UInt8(ascii: "\n")] : value, folder, path)
    }
  }

  private func edited(_ present: [ContentRule], _ path: [UInt8]) throws -> [ContentRule] {
    var rules = clearRules ? [] : present
    for pattern in removeRule.map(\.bytes) {
      guard rules.contains(where: { $0.pattern == pattern }) || recursive else {
        throw Failure(.notFound, "\(text(path)) has no rule for \(text(pattern))")
      }
      rules.removeAll { $0.pattern == pattern }
    }
    for new in rule.map(\.rule) {
      if let index = rules.firstIndex(where: { $0.pattern == new.pattern }) {
        rules[index] = new
      } else {
        rules.append(new)
      }
    }
    guard rules.count <= 32 else {
      throw Failure(.usage, "\(text(path)): a directory has at most 32 rules")
    }
    return rules
  }

  private func set(
    _ name: [UInt8], _ value: [UInt8], _ folder: SharedFD, _ path: [UInt8]
  ) throws {
    do throws(Errno) {
      try Sys.fsetxattr(folder.rawValue, name, value)
    } catch {
      throw Failure(error == .directoryNotEmpty ? .notEmpty : .system, message(error, text(path)))
    }
  }

  private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

  private func message(_ error: Errno, _ path: String) -> String {
    switch error {
    case .directoryNotEmpty:
      "\(path) is not empty: how names are stored can only change before there are any"
    case .readOnlyFileSystem: "\(path) is in a vault that is mounted read-only"
    case .notPermitted, .permissionDenied: "only the owner of \(path) may change its policy"
    default: "the policy of \(path) could not be set: \(Output.errnoText(error.rawValue))"
    }
  }
}

/// `GLOB=POLICY`.
struct RuleArgument: ExpressibleByArgument {
  let rule: ContentRule

  init?(argument: String) {
    guard let bytes = PathArgument(argument: argument)?.bytes,
      let cut = bytes.lastIndex(of: UInt8(ascii: "=")),
      let policy = ContentPolicy(name: String(decoding: bytes[(cut + 1)...], as: UTF8.self)),
      !bytes.contains(UInt8(ascii: "\n")),
      let rule = ContentRule(pattern: Array(bytes[..<cut]), policy: policy)
    else { return nil }
    self.rule = rule
  }
}
