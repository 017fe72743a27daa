import Primitives
import TestSupport
import Testing

@testable import Container

extension Hex {
  /// A vault's keys with these bytes as content root.
  func keys(suite: UInt8) -> ContainerKeys {
    ContainerKeys(
      contentRoot: SecretBytes(copying: bytes),
      suite: CipherSuite(rawValue: suite) ?? .aes256GCM)
  }
}

/// The known answers about header slots, nodes, blocks and free-list pages.
@Suite struct VectorPieceTests {
  private struct Slot: Decodable {
    struct Shown: Decodable {
      let policy: UInt8
      let epoch: UInt16
      let fileId: Hex
      let commit: UInt64
      let session: UInt64
      let size: UInt64
      let pageCount: UInt64
      let layout: UInt8
      let depth: Int
      let bindings: [Hex]
      let flags: UInt8
      let free: [[UInt64]]
      let held: [[UInt64]]
      let seals: UInt64
      let heldCommit: UInt64
      let freeList: Hex
      let content: Hex
    }

    let name: String
    let contentRoot: Hex
    let suite: UInt8
    let page: Hex
    let expect: Shown?
  }

  @Test func slotsAreTheKnownOnes() throws {
    for vector in try Vectors.cases("container/slot.json", as: Slot.self) {
      let store = MemoryStore(vector.page.padded(to: Format.pageSize))
      var reader = SlotReader(store: store, keys: vector.contentRoot.keys(suite: vector.suite))
      try reader.read()
      guard let known = vector.expect else {
        #expect(reader.slots[0].header == nil, "\(vector.name)")
        continue
      }
      let header = try #require(reader.slots[0].header, "\(vector.name)")
      check(header, known, vector.name)
      let page = UnsafeMutableRawPointer.allocate(byteCount: Format.pageSize, alignment: 8)
      defer { page.deallocate() }
      // The encoder has to give the body back that was decoded.
      header.encode(into: page)
      var again = try #require(Header(clearPartOf: page))
      let isDecoded = again.decodeBody(page + Format.bodyOffset)
      #expect(isDecoded)
      check(again, known, vector.name)
    }
  }

  private func check(_ header: Header, _ known: Slot.Shown, _ name: String) {
    #expect(header.policy.rawValue == known.policy, "\(name)")
    #expect(header.epoch == known.epoch)
    #expect(header.fileID.bytes == known.fileId.bytes)
    #expect(header.commit == known.commit)
    #expect(header.session == known.session)
    #expect(header.size == known.size)
    #expect(header.pageCount == known.pageCount)
    #expect(header.depth == known.depth)
    #expect(header.bindings.map(\.bytes) == known.bindings.map(\.bytes))
    #expect(header.bindingsOverflow == (known.flags & 1 != 0))
    #expect(header.isAlone == (known.flags & 2 != 0))
    #expect(header.free.map { [$0.start, $0.count] } == known.free)
    #expect(header.held.map { [$0.start, $0.count] } == known.held)
    #expect(header.seals == known.seals)
    #expect(header.heldCommit == known.heldCommit)
    #expect(bytes(of: [header.list]) == known.freeList.bytes)
    switch header.content {
    case .inline(let content):
      #expect(known.layout == 0)
      #expect(content == known.content.bytes)
    case .tree(let references):
      #expect(known.layout == 1)
      #expect(bytes(of: references) == known.content.padded(to: 3200))
    case .packed(let pages, let tail):
      #expect(known.layout == 2)
      let count = UInt16(tail.bytes.count)
      let state = [UInt8(count & 0xFF), UInt8(count >> 8), tail.codec.rawValue, 0]
      #expect(bytes(of: [pages]) + state + tail.bytes == known.content.bytes)
    }
  }

  private func bytes(of references: [Reference]) -> [UInt8] {
    references.withUnsafeBytes { [UInt8]($0) }
  }

  private struct Piece: Decodable {
    let name: String
    let contentRoot: Hex
    let suite: UInt8
    let policy: UInt8
    let fileId: Hex
    let epoch: UInt16
    let pageCount: UInt64
    let reference: Hex
    let stored: Hex
    let reject: String?

    /// The container around the reference, with the pages where it says.
    func open() throws -> (PageFile, Reference) {
      let policy = try #require(ContentPolicy(rawValue: policy))
      let reference = reference.bytes.withUnsafeBytes { $0.loadUnaligned(as: Reference.self) }
      let limits = ReferenceLimits(policy: policy, epoch: epoch, pageCount: pageCount)
      var file = [UInt8](repeating: 0, count: Int(pageCount) * Format.pageSize)
      let start = Int(reference.page) * Format.pageSize
      if start + stored.bytes.count <= file.count {
        file.replaceSubrange(start..<(start + stored.bytes.count), with: stored.bytes)
      }
      let binding = Binding(fileId.bytes)
      let ring = KeyRing(
        keys: contentRoot.keys(suite: suite), fileID: FileID(low: binding.low, high: binding.high))
      let pages = PageFile(store: MemoryStore(file), ring: ring, limits: limits, seals: 0)
      return (pages, reference)
    }
  }

  private struct Known<Value: Decodable>: Decodable {
    let expect: Value?
    let runs: [Run]?
  }

  private struct Run: Decodable {
    let byte: Hex
    let count: Int

    init(from decoder: any Decoder) throws {
      var values = try decoder.unkeyedContainer()
      byte = try values.decode(Hex.self)
      count = try values.decode(Int.self)
    }
  }

  /// The pages of a reference that may stand where it does; nil if it may not or is damaged.
  private func read<Value>(
    _ piece: Piece, inner: Bool, _ body: (PageFile, inout Reference) throws -> Value
  ) throws -> Value? {
    var (pages, reference) = try piece.open()
    guard reference.isValid(pages.limits, inner: inner) else { return nil }
    do {
      return try body(pages, &reference)
    } catch ContainerError.damaged {
      return nil
    }
  }

  @Test func nodesAreTheKnownOnes() throws {
    let pieces = try Vectors.cases("node/node.json", as: Piece.self)
    let known = try Vectors.cases("node/node.json", as: Known<[String: Hex]>.self)
    for (piece, known) in zip(pieces, known) {
      let found = try read(piece, inner: true) { pages, reference in
        var page = [UInt8](repeating: 0, count: Format.pageSize)
        try page.withUnsafeMutableBytes { buffer in
          let start = try #require(buffer.baseAddress)
          try pages.readNode(&reference, into: start, level: 1)
        }
        return page
      }
      var expected = [UInt8](repeating: 0, count: Format.pageSize)
      for (index, reference) in known.expect ?? [:] {
        let start = try #require(Int(index)) * Format.referenceCount
        expected.replaceSubrange(start..<(start + Format.referenceCount), with: reference.bytes)
      }
      #expect(found == (piece.reject == nil ? expected : nil), "\(piece.name)")
    }
  }

  @Test func blocksAreTheKnownOnes() throws {
    let pieces = try Vectors.cases("block/block.json", as: Piece.self)
    let known = try Vectors.cases("block/block.json", as: Known<Hex>.self)
    for (piece, known) in zip(pieces, known) {
      let policy = try #require(ContentPolicy(rawValue: piece.policy))
      let scratch = Scratch()
      let found = try read(piece, inner: false) { pages, reference in
        var block = [UInt8](repeating: 0, count: policy.blockSize)
        if reference.isHole { return block }
        var cipher = pages.cipher()
        try block.withUnsafeMutableBytes { buffer in
          try pages.decode(&reference, into: buffer, scratch, &cipher)
        }
        return block
      }
      var expected: [UInt8]?
      if piece.reject == nil {
        var content = known.expect?.bytes ?? []
        for run in known.runs ?? [] {
          content += [UInt8](repeating: run.byte.bytes[0], count: run.count)
        }
        expected = content + [UInt8](repeating: 0, count: policy.blockSize - content.count)
      }
      #expect(found == expected, "\(piece.name)")
    }
  }

  private struct List: Decodable {
    let next: Hex
    let extents: [[UInt64]]
    let heldCommit: UInt64
  }

  @Test func freeListsAreTheKnownOnes() throws {
    let pieces = try Vectors.cases("freelist/freelist.json", as: Piece.self)
    let known = try Vectors.cases("freelist/freelist.json", as: Known<List>.self)
    for (piece, known) in zip(pieces, known) {
      let found = try read(piece, inner: true) { pages, reference in
        try pages.readList(reference)
      }
      guard piece.reject == nil else {
        #expect(found == nil, "\(piece.name)")
        continue
      }
      let page = try #require(found, "\(piece.name)")
      let list = try #require(known.expect)
      #expect(bytes(of: [page.next]) == list.next.bytes)
      #expect(page.heldCommit == list.heldCommit)
      #expect(page.extents.map { [$0.start, $0.count] } == list.extents)
    }
  }
}
