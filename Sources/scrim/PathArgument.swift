import ArgumentParser
import Glibc

/// A path from the command line with the bytes it was typed with: a path need not be UTF-8, but
/// the parser only hands on repaired strings.
struct PathArgument: ExpressibleByArgument, Sendable {
  let bytes: [UInt8]

  /// For messages; bytes that are not UTF-8 show as replacement characters.
  var text: String { String(decoding: bytes, as: UTF8.self) }

  init(bytes: [UInt8]) { self.bytes = bytes }

  init?(argument: String) {
    guard !argument.isEmpty else { return nil }
    bytes =
      argument.unicodeScalars.contains("\u{FFFD}")
      ? Self.original(of: argument) : Array(argument.utf8)
  }

  static var defaultCompletionKind: CompletionKind { .file() }

  /// The path with the working directory before it, and without `.`, `..` and links where it exists.
  var absolute: [UInt8] {
    if let resolved = resolve(bytes) { return resolved }
    // A dead mount cannot be looked at, its parent can.
    let trimmed = Array(bytes.reversed().drop { $0 == UInt8(ascii: "/") }.reversed())
    guard let slash = trimmed.lastIndex(of: UInt8(ascii: "/")) else {
      return (resolve(Array(".".utf8)) ?? []) + [UInt8(ascii: "/")] + trimmed
    }
    let parent = slash == 0 ? Array("/".utf8) : Array(trimmed[..<slash])
    guard let resolved = resolve(parent) else { return trimmed }
    let name = trimmed[(slash + 1)...]
    return (resolved == Array("/".utf8) ? [] : resolved) + [UInt8(ascii: "/")] + name
  }

  /// Refuses what no text can hold: folders of vaults and mount points go through interfaces that take text.
  func requireText() throws(Failure) {
    for path in [bytes, absolute] where String(validating: path, as: UTF8.self) == nil {
      throw Failure(
        .usage,
        "\(StatusText.safe(String(decoding: path, as: UTF8.self))) is not UTF-8, which the folder of a vault and a mount point have to be"
      )
    }
  }

  /// What is before the last name, as it was typed.
  var parent: PathArgument {
    let slash = UInt8(ascii: "/")
    let trimmed = bytes.reversed().drop { $0 == slash }
    let rest = Array(trimmed.drop { $0 != slash }.drop { $0 == slash }.reversed())
    let start = Array((bytes.first == slash ? "/" : ".").utf8)
    return PathArgument(bytes: rest.isEmpty ? start : rest)
  }

  private func resolve(_ path: [UInt8]) -> [UInt8]? {
    guard let resolved = realpath(path.map { CChar(bitPattern: $0) } + [0], nil) else { return nil }
    defer { free(resolved) }
    return Array(UnsafeRawBufferPointer(start: resolved, count: strlen(resolved)))
  }

  /// The argument as the kernel handed it over whose repaired form this is.
  private static func original(of repaired: String) -> [UInt8] {
    for index in 0..<Int(CommandLine.argc) {
      guard let argument = CommandLine.unsafeArgv[index] else { continue }
      let bytes = Array(UnsafeRawBufferPointer(start: argument, count: strlen(argument)))
      if String(decoding: bytes, as: UTF8.self) == repaired { return bytes }
    }
    return Array(repaired.utf8)
  }
}
