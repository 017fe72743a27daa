import Primitives
import TestSupport
import Testing

@testable import Container

/// Whole containers of the vectors: which slot counts, trees, and one fault each.
@Suite struct VectorFileTests {
  private struct Piece: Decodable {
    let offset: UInt64
    let bytes: [UInt8]

    init(from decoder: any Decoder) throws {
      var values = try decoder.unkeyedContainer()
      offset = try values.decode(UInt64.self)
      let unit = try values.decode(Hex.self).bytes
      let count = try values.decode(Int.self)
      bytes = Array([[UInt8]](repeating: unit, count: count).joined())
    }
  }

  private struct Shown: Decodable {
    let size: UInt64
    let commit: UInt64
    let data: [Piece]
    let healed: Bool?
  }

  private struct File: Decodable {
    let name: String
    let contentRoot: Hex
    let suite: UInt8
    let excused: Bool
    /// Sessions that ended uncleanly.
    let sessions: [[UInt64]]?
    let file: SparseFile
    let expect: Shown?
    let writer: String?

    func open() throws -> ContainerFile {
      try ContainerFile.open(
        store: MemoryStore(file.bytes), keys: contentRoot.keys(suite: suite),
        parameters: ContainerParameters(policy: .sealed, session: 1_800_000_000),
        excuse: TornExcuse(
          isExcused: excused, sessions: (sessions ?? []).map { $0[0]...$0[1] }),
        workspace: Workspace())
    }
  }

  @Test(arguments: ["content", "slots", "faults"])
  func containersAreReadAsKnown(_ file: String) throws {
    for vector in try Vectors.cases("container/\(file).json", as: File.self) {
      guard let known = vector.expect else {
        #expect(throws: ContainerError.self, "\(vector.name)") {
          let file = try vector.open()
          _ = try read(file, 0..<min(file.size, 1 << 20))
        }
        continue
      }
      let file = try vector.open()
      #expect(file.size == known.size, "\(vector.name)")
      #expect(file.commitNumber == known.commit, "\(vector.name)")
      #expect(file.healed == (known.healed ?? false), "\(vector.name)")
      for range in ranges(of: known) {
        #expect(try read(file, range) == expected(known, range), "\(vector.name): \(range)")
      }
      #expect(
        try file.verify(deep: true).isEmpty == (vector.writer == nil), "\(vector.name)")
    }
  }

  /// Where to look in a file that may be huge: everywhere in a small one, else around the data.
  private func ranges(of known: Shown) -> [Range<UInt64>] {
    let margin: UInt64 = 1 << 18
    if known.size <= 1 << 20 { return [0..<known.size] }
    let edges: [Range<UInt64>] = [0..<margin, (known.size - margin)..<known.size]
    return edges
      + known.data.map { piece in
        let end = piece.offset + UInt64(piece.bytes.count) + margin
        return (piece.offset - min(piece.offset, margin))..<min(known.size, end)
      }
  }

  private func expected(_ known: Shown, _ range: Range<UInt64>) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    for piece in known.data {
      for (index, byte) in piece.bytes.enumerated()
      where range.contains(piece.offset + UInt64(index)) {
        bytes[Int(piece.offset + UInt64(index) - range.lowerBound)] = byte
      }
    }
    return bytes
  }

  private func read(_ file: ContainerFile, _ range: Range<UInt64>) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xEE, count: range.count)
    let count = try bytes.withUnsafeMutableBytes { buffer in
      try file.read(at: range.lowerBound, into: buffer)
    }
    #expect(count == bytes.count)
    return bytes
  }
}
