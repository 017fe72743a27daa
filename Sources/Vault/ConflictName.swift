/// Names that synchronising tools give to the losing version of a file (format §11).
struct ConflictName: Equatable {
  /// The name without the tool's addition.
  var original: [UInt8]
  /// What the tool put in.
  var addition: [UInt8]

  private static let syncthing = Format.bytes(".sync-conflict-")
  private static let copyMark = Format.bytes("conflicted copy")
  private static let open = Format.bytes(" (")

  /// Finds the addition in a plain or backing name; nil if there is none.
  init?(_ name: [UInt8]) {
    let range: Range<Int>
    if let start = name.firstIndex(of: ConflictName.syncthing) {
      let rest = start + ConflictName.syncthing.count
      let end = name[rest...].firstIndex(of: UInt8(ascii: ".")) ?? name.count
      range = start..<end
    } else if let mark = name.firstIndex(of: ConflictName.copyMark),
      let start = (0..<mark).last(where: {
        name[$0...].starts(with: ConflictName.open)
      }),
      let end = name[mark...].firstIndex(of: UInt8(ascii: ")"))
    {
      range = start..<(end + 1)
    } else {
      return nil
    }
    addition = Array(name[range])
    original = Array(name[..<range.lowerBound] + name[range.upperBound...])
    guard !original.isEmpty else { return nil }
  }

  /// The plain name under which the copy of an entry is shown: the addition goes before the last
  /// extension.
  static func shown(_ name: [UInt8], addition: [UInt8]) -> [UInt8] {
    guard let dot = name.lastIndex(of: UInt8(ascii: ".")), dot > 0 else { return name + addition }
    return Array(name[..<dot]) + addition + Array(name[dot...])
  }

  /// The backing names a tool may have made of one: the addition before its suffix, or at the end.
  static func backingNames(
    _ backing: [UInt8], suffix: [UInt8], addition: [UInt8]
  ) -> [[UInt8]] {
    let stem = Array(backing[..<(backing.count - suffix.count)])
    let inside = stem + addition + suffix
    let names = suffix.isEmpty ? [inside] : [inside, backing + addition]
    return names.filter { $0.count <= Format.maximumName }
  }
}
