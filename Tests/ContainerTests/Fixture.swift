import Primitives
import SystemPackage
import TestSupport
import Testing

@testable import Container

let containerPolicies: [ContentPolicy] = [.sealed, .compressed, .sealedCompressed]

let testKeys = ContainerKeys(
  contentRoot: SecretBytes(copying: [UInt8](0..<32)), suite: .preferred)

let testBinding = Binding([UInt8](repeating: 7, count: 16))

func testParameters(_ policy: ContentPolicy, session: UInt64 = 1) -> ContainerParameters {
  ContainerParameters(policy: policy, session: session, bindings: [testBinding])
}

func createContainer(
  _ store: any BlockStore, _ policy: ContentPolicy,
  workspace: Workspace = Workspace(writesBehind: true)
) throws -> ContainerFile {
  try ContainerFile.create(
    store: store, keys: testKeys, parameters: testParameters(policy), workspace: workspace)
}

func openContainer(
  _ store: any BlockStore, _ policy: ContentPolicy = .sealed, session: UInt64 = 2,
  excuse: TornExcuse = .none, known: KnownCommits? = nil,
  workspace: Workspace = Workspace(writesBehind: true)
) throws -> ContainerFile {
  try ContainerFile.open(
    store: store, keys: testKeys, parameters: testParameters(policy, session: session),
    excuse: excuse, known: known, workspace: workspace)
}

extension ContainerFile {
  func write(_ bytes: [UInt8], at offset: UInt64) throws(ContainerError) {
    let failure = bytes.withUnsafeBytes { raw -> ContainerError? in
      do throws(ContainerError) {
        try write(at: offset, from: raw)
        return nil
      } catch {
        return error
      }
    }
    if let failure { throw failure }
  }

  func read(at offset: UInt64, count: Int) throws(ContainerError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xEE, count: count)
    let result = bytes.withUnsafeMutableBytes { raw -> Result<Int, ContainerError> in
      do throws(ContainerError) {
        return .success(try read(at: offset, into: raw))
      } catch {
        return .failure(error)
      }
    }
    bytes.removeLast(count - (try result.get()))
    return bytes
  }

  func readAll() throws(ContainerError) -> [UInt8] { try read(at: 0, count: Int(size)) }

  /// Pages that the working tree and the last free list use, each once; nil if one is used twice.
  private func usedPages() throws -> PageSet? {
    var used = PageSet()
    func claim(_ extent: Extent) -> Bool {
      if used.intersects(extent) { return false }
      used.insert(extent)
      return true
    }
    func visit(_ node: Node, fanout: Int, base: UInt64) throws -> Bool {
      let coverage = Tree.coverage(level: node.level)
      for index in 0..<fanout {
        let reference = node.references[index]
        if !reference.isHole, !claim(reference.extent) { return false }
        guard node.level > 1 else { continue }
        let first = base + UInt64(index) * coverage
        if node.child(index) == nil, !reference.isHole { _ = try tree.locate(first) }
        if let child = node.child(index),
          try !visit(child, fanout: Format.nodeFanout, base: first)
        {
          return false
        }
      }
      return true
    }
    guard try visit(tree.root, fanout: Format.rootFanout, base: 0) else { return nil }
    for extent in listPages where !claim(extent) { return nil }
    return used
  }

  /// Checks that every page is in exactly one place: in use, free, held, or given up.
  func expectConsistentPages(_ comment: Comment? = nil) throws {
    guard unloadedList == nil else { return }
    guard var seen = try usedPages() else {
      Issue.record("a page is used twice")
      return
    }
    for extent in allocator.idleExtents {
      if seen.intersects(extent) { Issue.record("page \(extent.start) is free and in use") }
      seen.insert(extent)
    }
    let all = seen.extents
    let end = allocator.end
    if end > 2 {
      #expect(all == [Extent(start: 2, count: end - 2)], comment)
    } else {
      #expect(all.isEmpty, comment)
    }
  }
}
