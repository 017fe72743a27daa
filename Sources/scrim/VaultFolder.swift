import Glibc
import Vault

extension PathArgument {
  /// The header of the vault in this folder; where there is none the message says what may have been meant.
  func inspectVault() throws(Failure) -> VaultHeader {
    try requireText()
    do {
      return try Vault.inspect(at: text)
    } catch .notAVault(let reason) {
      let near = Guess.vault(near: self).map { "; did you mean \(StatusText.safe($0))?" } ?? ""
      throw Failure(.notAVault, "\(text) is not a vault: \(reason)\(near)")
    } catch .system(let errno, _) {
      throw Failure(.system, "\(text) cannot be read as a vault: \(errno)")
    } catch {
      throw Failure(error)
    }
  }
}

/// What somebody may have meant who mistyped.
enum Guess {
  /// How many letters may be wrong.
  private static let tolerance = 2

  /// The nearest of some words, if one is near.
  static func word(near word: String, among known: some Sequence<String>) -> String? {
    let near = known.map { ($0, distance(word, $0)) }.min { $0.1 < $1.1 }
    guard let near, near.1 <= tolerance, near.1 < word.count else { return nil }
    return near.0
  }

  /// The vault that a path without one may stand for: the vault that is mounted there, the one the path is in, the
  /// only one in it, or one beside it of a similar name.
  static func vault(near path: PathArgument) -> String? {
    if let mount = try? MountTable.scrimMount(at: path.absolute) {
      return String(decoding: mount.source, as: UTF8.self)
    }
    let full = String(decoding: path.absolute, as: UTF8.self)
    var folders = full.split(separator: "/")
    let last = folders.popLast().map(String.init) ?? ""
    let parent = "/" + folders.joined(separator: "/")
    if let around = vault(around: path) { return around }
    let inside = Folder.names(full).map { "\(full)/\($0)" }.filter(isVault)
    if inside.count == 1 { return inside[0] }
    let beside = Folder.names(parent).filter { isVault("\(parent)/\($0)") }
    return word(near: last, among: beside).map { "\(parent == "/" ? "" : parent)/\($0)" }
  }

  /// The vault in whose folder a path is.
  static func vault(around path: PathArgument) -> String? {
    var folders = String(decoding: path.absolute, as: UTF8.self).split(separator: "/").dropLast()
    while !folders.isEmpty {
      let folder = "/" + folders.joined(separator: "/")
      if isVault(folder) { return folder }
      folders.removeLast()
    }
    return nil
  }

  private static func isVault(_ folder: String) -> Bool {
    access("\(folder)/scrim.vault", F_OK) == 0
  }

  /// Levenshtein's: how many letters have to be added, dropped or changed.
  private static func distance(_ left: String, _ right: String) -> Int {
    let right = Array(right)
    var row = Array(0...right.count)
    for (i, letter) in left.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, other) in right.enumerated() {
        let cost = letter == other ? diagonal : min(diagonal, row[j], row[j + 1]) + 1
        diagonal = row[j + 1]
        row[j + 1] = cost
      }
    }
    return row[right.count]
  }
}
