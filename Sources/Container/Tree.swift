import Primitives
import Synchronization

/// The tree of references from the header to the blocks, loaded as far as it was needed.
/// Looking up is allowed to several threads at once under the container's read lock, all else needs
/// the write lock.
final class Tree {
  let pages: PageFile
  let allocator: Allocator
  private let workspace: Workspace
  /// Stands for the references in the header; its level is depth + 1.
  private(set) var root: Node
  private(set) var depth: Int
  private let nodeCount = Atomic<Int>(0)
  /// Nodes each tree may keep whatever the workspace says.
  static let minimumNodes = 64

  init(
    pages: PageFile, allocator: Allocator, workspace: Workspace, references: [Reference], depth: Int
  ) {
    self.pages = pages
    self.allocator = allocator
    self.workspace = workspace
    self.depth = depth
    root = Node.make(level: depth + 1)
    for (index, reference) in references.enumerated() { root.references[index] = reference }
  }

  deinit {
    discardChildren(of: root, fanout: Format.rootFanout)
    root.free()
  }

  /// The references of the header.
  var rootReferences: [Reference] { (0..<Format.rootFanout).map { root.references[$0] } }

  /// Blocks that a reference of a node at a level covers.
  @inline(__always) static func coverage(level: Int) -> UInt64 {
    var blocks: UInt64 = 1
    for _ in 1..<max(level, 1) { blocks *= UInt64(Format.nodeFanout) }
    return blocks
  }

  // MARK: Looking up

  /// References of consecutive blocks, or a run of holes.
  struct Span {
    /// The first reference; nil for holes.
    var references: UnsafeMutablePointer<Reference>?
    /// How many blocks.
    var count: UInt64
  }

  /// What is stored for a block and those after it.
  func locate(_ block: UInt64) throws(ContainerError) -> Span {
    var node = root
    var coverage = Tree.coverage(level: depth + 1)
    var index = block / coverage
    guard index < UInt64(Format.rootFanout) else { return Span(references: nil, count: .max) }
    var rest = block % coverage
    var fanout = UInt64(Format.rootFanout)
    while node.level > 1 {
      let next: Node
      if let child = node.child(Int(index)) {
        next = child
      } else if node.references[Int(index)].isHole {
        return Span(references: nil, count: coverage - rest)
      } else {
        next = try load(node, Int(index))
      }
      next.touch()
      node = next
      coverage /= UInt64(Format.nodeFanout)
      index = rest / coverage
      rest %= coverage
      fanout = UInt64(Format.nodeFanout)
    }
    return Span(references: node.references + Int(index), count: fanout - index)
  }

  /// Reads a node that is not in memory.
  private func load(_ parent: Node, _ index: Int) throws(ContainerError) -> Node {
    let node = Node.make(level: parent.level - 1)
    do throws(ContainerError) {
      try pages.readNode(parent.references + index, into: node.page, level: node.level)
    } catch {
      node.free()
      throw error
    }
    let adopted = parent.adoptChild(index, node)
    if adopted == node {
      count(1)
    } else {
      node.free()
    }
    return adopted
  }

  private func count(_ change: Int) {
    nodeCount.add(change, ordering: .relaxed)
    workspace.nodes.add(change, ordering: .relaxed)
  }

  // MARK: Memory

  /// Whether nodes should be dropped from memory.
  var isOverLimit: Bool {
    nodeCount.load(ordering: .relaxed) > Tree.minimumNodes
      && workspace.nodes.load(ordering: .relaxed) > workspace.nodeLimit
  }

  /// Drops nodes that are stored as they are and were not used since the last call.
  func evict() {
    evictChildren(of: root, fanout: Format.rootFanout)
  }

  private func evictChildren(of node: Node, fanout: Int) {
    for index in 0..<fanout {
      guard let child = node.child(index) else { continue }
      evictChildren(of: child, fanout: Format.nodeFanout)
      if child.isDirty || child.takeTouch() || hasChildren(child) { continue }
      drop(node, index)
    }
  }

  private func hasChildren(_ node: Node) -> Bool {
    (0..<Format.nodeFanout).contains { node.child($0) != nil }
  }

  /// Takes a child without children out of memory.
  private func drop(_ node: Node, _ index: Int) {
    guard let child = node.child(index) else { return }
    node.setChild(index, nil)
    child.free()
    count(-1)
  }

  private func discardChildren(of node: Node, fanout: Int) {
    for index in 0..<fanout {
      guard let child = node.child(index) else { continue }
      discardChildren(of: child, fanout: Format.nodeFanout)
      drop(node, index)
    }
  }

  // MARK: Changing references

  /// Makes the tree deep enough for a number of blocks.
  func grow(toHold blocks: UInt64) {
    while Format.blocksCovered(depth: depth) < blocks {
      let top = Node.make(level: depth + 2)
      if root.isVacant(fanout: Format.rootFanout) {
        root.free()
      } else {
        // The old root becomes a node whose last references are holes.
        root.setDirty(true)
        top.setChild(0, root)
        count(1)
      }
      root = top
      depth += 1
    }
  }

  /// The reference of a block and those after it in its node, for changing: every node on the way
  /// is in memory, and stored anew by the next commit.
  func mutableSpan(
    _ block: UInt64
  ) throws(ContainerError) -> (references: UnsafeMutablePointer<Reference>, count: Int) {
    var node = root
    var coverage = Tree.coverage(level: depth + 1)
    var index = Int(block / coverage)
    var rest = block % coverage
    var fanout = Format.rootFanout
    while node.level > 1 {
      let next: Node
      if let child = node.child(index) {
        next = child
      } else if node.references[index].isHole {
        next = Node.make(level: node.level - 1)
        node.setChild(index, next)
        count(1)
      } else {
        next = try load(node, index)
      }
      makeDirty(node, index, next)
      node = next
      coverage /= UInt64(Format.nodeFanout)
      index = Int(rest / coverage)
      rest %= coverage
      fanout = Format.nodeFanout
    }
    return (node.references + index, fanout - index)
  }

  /// Gives up the stored page of a node that is going to change.
  private func makeDirty(_ parent: Node, _ index: Int, _ node: Node) {
    node.touch()
    if node.isDirty { return }
    node.setDirty(true)
    if !parent.references[index].isHole { allocator.release(parent.references[index].extent) }
    parent.references[index] = .hole
  }

  // MARK: Making holes

  /// The block behind the last one below `limit` that is not a hole; 0 if all are. Blocks below a
  /// damaged node count as data.
  func dataEnd(below limit: UInt64) throws(ContainerError) -> UInt64 {
    try dataEnd(below: limit, in: root, base: 0, fanout: Format.rootFanout) ?? 0
  }

  private func dataEnd(
    below limit: UInt64, in node: Node, base: UInt64, fanout: Int
  ) throws(ContainerError) -> UInt64? {
    let coverage = Tree.coverage(level: node.level)
    for index in overlap(base..<max(base, limit), base: base, coverage: coverage, fanout: fanout)
      .reversed()
    {
      let first = base + UInt64(index) * coverage
      var child = node.child(index)
      if child == nil {
        if node.references[index].isHole { continue }
        if node.level == 1 { return first + 1 }
        do throws(ContainerError) {
          child = try load(node, index)
        } catch .damaged {
          return min(limit, first + coverage)
        }
      }
      guard let child else { continue }
      let end = try dataEnd(below: limit, in: child, base: first, fanout: Format.nodeFanout)
      if let end { return end }
    }
    return nil
  }

  /// Loads the nodes that `clear` needs, so that it cannot fail half way. Nodes that are damaged
  /// and would go altogether are passed over: their blocks' pages are forgotten.
  func prepareToClear(_ range: Range<UInt64>) throws(ContainerError) {
    try prepareToClear(range, in: root, base: 0, fanout: Format.rootFanout)
  }

  private func prepareToClear(
    _ range: Range<UInt64>, in node: Node, base: UInt64, fanout: Int
  ) throws(ContainerError) {
    guard node.level > 1 else { return }
    let coverage = Tree.coverage(level: node.level)
    for index in overlap(range, base: base, coverage: coverage, fanout: fanout) {
      let first = base + UInt64(index) * coverage
      if node.child(index) == nil {
        if node.references[index].isHole { continue }
        do throws(ContainerError) {
          _ = try load(node, index)
        } catch .damaged where range.lowerBound <= first && first + coverage <= range.upperBound {
          continue
        }
      }
      guard let child = node.child(index) else { continue }
      try prepareToClear(range, in: child, base: first, fanout: Format.nodeFanout)
    }
  }

  /// Turns blocks into holes and releases their pages.
  func clear(_ range: Range<UInt64>) {
    clear(range, in: root, base: 0, fanout: Format.rootFanout)
  }

  private func clear(_ range: Range<UInt64>, in node: Node, base: UInt64, fanout: Int) {
    let coverage = Tree.coverage(level: node.level)
    for index in overlap(range, base: base, coverage: coverage, fanout: fanout) {
      let first = base + UInt64(index) * coverage
      let isWhole = range.lowerBound <= first && first + coverage <= range.upperBound
      if let child = node.child(index) {
        makeDirty(node, index, child)
        clear(range, in: child, base: first, fanout: Format.nodeFanout)
        if isWhole { drop(node, index) }
      } else if isWhole, !node.references[index].isHole {
        allocator.release(node.references[index].extent)
        node.references[index] = .hole
      }
    }
  }

  private func overlap(
    _ range: Range<UInt64>, base: UInt64, coverage: UInt64, fanout: Int
  ) -> Range<Int> {
    guard range.upperBound > base, range.lowerBound < base + coverage * UInt64(fanout),
      !range.isEmpty
    else { return 0..<0 }
    let first = range.lowerBound > base ? Int((range.lowerBound - base) / coverage) : 0
    let end = min(UInt64(fanout), (range.upperBound - base + coverage - 1) / coverage)
    return first..<max(first, Int(end))
  }

  /// Makes the tree as flat as a number of blocks allows; the blocks beyond are holes.
  func shrink(toHold blocks: UInt64) {
    while depth > 0, blocks <= Format.blocksCovered(depth: depth - 1) {
      var child = root.child(0)
      // A tree deeper than it needs to be is valid, so one that cannot be read stays.
      if child == nil, !root.references[0].isHole { child = try? load(root, 0) }
      guard child != nil || root.references[0].isHole else { return }
      // What else is in memory has become empty since it was loaded.
      for index in 1..<Format.rootFanout {
        guard let vacant = root.child(index) else { continue }
        discardChildren(of: vacant, fanout: Format.nodeFanout)
        drop(root, index)
      }
      let flat = Node.make(level: depth)
      if let child {
        makeDirty(root, 0, child)
        for index in 0..<Format.rootFanout {
          flat.references[index] = child.references[index]
          if let grandchild = child.child(index) {
            flat.setChild(index, grandchild)
            child.setChild(index, nil)
          }
        }
        drop(root, 0)
      }
      root.free()
      root = flat
      depth -= 1
    }
  }

  // MARK: Storing

  /// A node to store, and where its reference goes.
  struct DirtyNode {
    var parent: Node
    var index: Int
    var node: Node
  }

  /// The nodes to store, children before parents. Nodes of holes become holes.
  func collectDirty() -> [DirtyNode] {
    var found: [DirtyNode] = []
    collectDirty(in: root, fanout: Format.rootFanout, &found)
    return found
  }

  private func collectDirty(in node: Node, fanout: Int, _ found: inout [DirtyNode]) {
    guard node.level > 1 else { return }
    for index in 0..<fanout {
      guard let child = node.child(index), child.isDirty else { continue }
      collectDirty(in: child, fanout: Format.nodeFanout, &found)
      if child.isVacant(fanout: Format.nodeFanout) {
        node.references[index] = .hole
        drop(node, index)
      } else {
        found.append(DirtyNode(parent: node, index: index, node: child))
      }
    }
  }
}
