import Synchronization

/// A node of the tree in memory: its page as it is on disk in clear, and pointers to the nodes
/// below that are in memory too. Memory is managed by the tree, so that reading counts no references.
///
/// Child pointers are set by readers that load nodes, from several threads; everything else
/// changes only under the container's write lock.
struct Node: Equatable {
  private let base: UnsafeMutableRawPointer

  private static let levelOffset = Format.pageSize
  private static let dirtyOffset = Format.pageSize + 8
  private static let touchedOffset = Format.pageSize + 16
  private static let childrenOffset = Format.pageSize + 24

  private init(base: UnsafeMutableRawPointer) {
    self.base = base
  }

  /// A node of holes.
  ///
  /// - Parameter level: As in docs/format.md §8.3; the node of level 1 refers to blocks.
  /// - Returns: The node, owned by the caller.
  static func make(level: Int) -> Node {
    let hasChildren = level > 1
    let count = childrenOffset + (hasChildren ? Format.nodeFanout * 8 : 0)
    let node = Node(base: .allocate(byteCount: count, alignment: 64))
    node.base.zero(from: 0, count: Format.pageSize)
    node.base.storeBytes(of: level, toByteOffset: levelOffset, as: Int.self)
    node.base.storeBytes(of: false, toByteOffset: dirtyOffset, as: Bool.self)
    (node.base + touchedOffset).bindMemory(to: Atomic<Bool>.self, capacity: 1)
      .initialize(to: Atomic(true))
    if hasChildren {
      let children = (node.base + childrenOffset)
        .bindMemory(to: Atomic<UInt>.self, capacity: Format.nodeFanout)
      for index in 0..<Format.nodeFanout { (children + index).initialize(to: Atomic(0)) }
    }
    return node
  }

  /// Frees this node's memory, not that of its children.
  func free() { base.deallocate() }

  /// The page.
  @inline(__always) var page: UnsafeMutableRawPointer { base }

  @inline(__always) var references: UnsafeMutablePointer<Reference> {
    base.assumingMemoryBound(to: Reference.self)
  }

  @inline(__always) var level: Int { base.load(fromByteOffset: Node.levelOffset, as: Int.self) }

  /// Whether the page differs from what is stored.
  var isDirty: Bool { base.load(fromByteOffset: Node.dirtyOffset, as: Bool.self) }

  func setDirty(_ dirty: Bool) {
    base.storeBytes(of: dirty, toByteOffset: Node.dirtyOffset, as: Bool.self)
  }

  private var touched: UnsafeMutablePointer<Atomic<Bool>> {
    (base + Node.touchedOffset).assumingMemoryBound(to: Atomic<Bool>.self)
  }

  /// Notes that the node was used.
  @inline(__always) func touch() {
    if !touched.pointee.load(ordering: .relaxed) { touched.pointee.store(true, ordering: .relaxed) }
  }

  /// Whether the node was used since the last call.
  func takeTouch() -> Bool { touched.pointee.exchange(false, ordering: .relaxed) }

  private var children: UnsafeMutablePointer<Atomic<UInt>> {
    (base + Node.childrenOffset).assumingMemoryBound(to: Atomic<UInt>.self)
  }

  @inline(__always) func child(_ index: Int) -> Node? {
    guard level > 1 else { return nil }
    return Node(bits: (children + index).pointee.load(ordering: .acquiring))
  }

  func setChild(_ index: Int, _ child: Node?) {
    (children + index).pointee.store(UInt(bitPattern: child?.base), ordering: .releasing)
  }

  /// Sets a child unless there is one; returns the one there is.
  func adoptChild(_ index: Int, _ child: Node) -> Node {
    let result = (children + index).pointee.compareExchange(
      expected: 0, desired: UInt(bitPattern: child.base), ordering: .acquiringAndReleasing)
    return result.exchanged ? child : Node(bits: result.original) ?? child
  }

  private init?(bits: UInt) {
    guard let base = UnsafeMutableRawPointer(bitPattern: bits) else { return nil }
    self.base = base
  }

  /// Whether the node refers to nothing and has no children in memory.
  func isVacant(fanout: Int) -> Bool {
    for index in 0..<fanout where !references[index].isHole || child(index) != nil { return false }
    return true
  }
}
