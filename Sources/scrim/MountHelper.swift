import Glibc

/// The program under the name `mount.scrim`: what mount(8) runs for `mount -t fuse.scrim` and for lines of /etc/fstab.
///
/// It becomes `scrim mount` with the same bytes in other places. Words of `-o` that say where a secret or the log is
/// become the options of that name.
struct MountHelper {
  /// Arguments of `scrim mount`, the program's name first.
  private(set) var words: [[UInt8]] = [Array("scrim".utf8), Array("mount".utf8)]
  /// `-f`: everything but the mount.
  private(set) var isFake = false

  private static let names: Set<String> = ["mount.scrim", "mount.fuse.scrim"]
  /// Words of `-o` with a value that are options of their own.
  static let options = [
    "passphrase_file", "passphrase_command", "pinentry", "key_file", "recovery_key_file",
    "log_file",
    "log_level",
  ]
  private static let valued = Set("oNt".utf8)
  private static let ignored = Set("snvr".utf8)

  /// Takes over and does not return if the program was called as mount(8) calls its helpers.
  static func takeOver() throws(Failure) {
    let arguments = (0..<Int(CommandLine.argc)).compactMap { index in
      CommandLine.unsafeArgv[index].map { text in
        Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
      }
    }
    guard let first = arguments.first,
      names.contains(
        String(decoding: first.split(separator: UInt8(ascii: "/")).last ?? [], as: UTF8.self))
    else { return }
    let helper = try MountHelper(Array(arguments.dropFirst()))
    guard !helper.isFake else { exit(0) }
    var pointers = helper.words.map { word in
      strdup(word.map { CChar(bitPattern: $0) } + [0])
    }
    pointers.append(nil)
    execv("/proc/self/exe", &pointers)
    throw Failure(.system, "starting 'scrim mount' failed: \(Output.errnoText(errno))")
  }

  /// Reads `VAULT DIRECTORY [-sfnv] [-N namespace] [-o options] [-t type]`, options anywhere.
  init(_ arguments: [[UInt8]]) throws(Failure) {
    var paths: [[UInt8]] = []
    var rest = arguments[...]
    while let word = rest.popFirst() {
      guard word.first == UInt8(ascii: "-"), word.count > 1 else {
        paths.append(word)
        continue
      }
      for (index, letter) in word.enumerated().dropFirst() {
        if Self.valued.contains(letter) {
          let attached = Array(word[(index + 1)...])
          guard let value = attached.isEmpty ? rest.popFirst() : attached else {
            throw Self.usage
          }
          if letter == UInt8(ascii: "o") { take(value) }
          break
        }
        if letter == UInt8(ascii: "f") { isFake = true }
        if letter == UInt8(ascii: "r") { take(Array("ro".utf8)) }
        guard letter == UInt8(ascii: "f") || Self.ignored.contains(letter) else {
          throw Self.usage
        }
      }
    }
    guard paths.count == 2 else { throw Self.usage }
    words += [Array("--".utf8)] + paths
  }

  private static let usage = Failure(
    .usage, "usage: mount -t fuse.scrim VAULT DIRECTORY [-o OPTIONS], see mount.scrim(8)")

  /// Sorts one value of `-o` into options of the command and options of the mount.
  private mutating func take(_ list: [UInt8]) {
    var kept: [[UInt8]] = []
    for word in Self.split(list) {
      let option = Self.options.first { word.starts(with: Array("\($0)=".utf8)) }
      guard let option else {
        kept.append(word)
        continue
      }
      let name = "--" + String(option.map { $0 == "_" ? "-" : $0 })
      // A backslash kept a comma from ending the word; the path is without it.
      let value = word.dropFirst(option.utf8.count + 1).filter { $0 != UInt8(ascii: "\\") }
      words.append(Array("\(name)=".utf8) + value)
    }
    guard !kept.isEmpty else { return }
    words += [Array("-o".utf8), Array(kept.joined(separator: [UInt8(ascii: ",")]))]
  }

  /// Splits at commas that no backslash stands before; what is in between stays as it is.
  private static func split(_ list: [UInt8]) -> [[UInt8]] {
    var words: [[UInt8]] = [[]]
    var isEscaped = false
    for byte in list {
      if byte == UInt8(ascii: ","), !isEscaped {
        words.append([])
      } else {
        words[words.count - 1].append(byte)
      }
      isEscaped = byte == UInt8(ascii: "\\") && !isEscaped
    }
    return words.filter { !$0.isEmpty }
  }
}
