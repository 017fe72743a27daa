/// Numbers of the on-disk format; the sections are those of docs/format.md.
enum Format {
  /// §1: bytes in a page.
  static let pageSize = 4096
  /// §8: header slots at the start of the file, in pages.
  static let slotCount = 2
  /// §8.1: "SCRIMCTR" as a little-endian integer.
  static let magic: UInt64 = 0x5254_434D_4952_4353
  /// §8.1: bytes of a slot that are associated data.
  static let clearCount = 48
  /// §8.1: where the nonce is, in bytes.
  static let slotNonceOffset = 48
  /// §8.1: where the tag is, in bytes.
  static let slotTagOffset = 60
  /// §8.1: where the body begins, in bytes.
  static let bodyOffset = 80
  /// §8.1: bytes in the body.
  static let bodyCount = 4016
  /// §8.2: bytes of the body's fixed fields.
  static let bodyFixedCount = 80
  /// §8.2: largest logical size, in bytes.
  static let maximumSize: UInt64 = 1 << 57
  /// §8.2: page counts are below this.
  static let pageCountLimit: UInt64 = 1 << 48
  /// §8.2: extents a header holds at most.
  static let headerExtentLimit = 40
  /// §8.2: bytes of an extent.
  static let extentCount = 10
  /// §8.2: bindings a header holds at most.
  static let bindingLimit = 16
  /// §8.6: largest inline content, in bytes, with up to two bindings.
  static let inlineLimit = 3904
  /// §8.2: bytes of a packed block's reference, and of what is said of its tail.
  static let packedFixedCount = 44
  /// §8.2: references in the header.
  static let rootFanout = 80
  /// §8.3: references in a node.
  static let nodeFanout = 102
  /// §8.2: largest depth.
  static let maximumDepth = 7
  /// §8.3: bytes of a reference.
  static let referenceCount = 40
  /// §8.4: extents in a free-list page.
  static let listExtentLimit = 400
  /// §8.4: where the extents begin in a free-list page, in bytes.
  static let listExtentOffset = 56
  /// §8.6: seals under one key after which a writer moves on.
  static let sealsPerEpoch: UInt64 = 1 << 28

  /// Pages that `count` bytes take.
  static func pages(for count: Int) -> Int { (count + pageSize - 1) / pageSize }

  /// Blocks a tree of this depth covers: 80·102^depth.
  static func blocksCovered(depth: Int) -> UInt64 {
    var blocks = UInt64(rootFanout)
    for _ in 0..<depth { blocks *= UInt64(nodeFanout) }
    return blocks
  }
}
