import Testing
import TestSupport
import Vault

@testable import Mount

@Suite struct InodeTableTests {
  static func identity(_ inode: UInt64, birth: Int64 = 1) -> BackingIdentity {
    BackingIdentity(device: 7, inode: inode, birth: birth)
  }

  static func table() -> InodeTable { InodeTable(root: identity(1)) }

  static func link(_ table: InodeTable, _ name: String) -> Inode.Link {
    Inode.Link(parent: table.root, name: Array(name.utf8))
  }

  @Test func rootHasNodeidOneAndIsNeverForgotten() {
    let table = Self.table()
    #expect(table.root.nodeid == 1)
    table.forget(1, count: 1000)
    #expect(table.inode(1) === table.root)
  }

  @Test func aNameThatIsNotProvenGetsAnInodeOfItsOwn() {
    let table = InodeTable(root: Self.identity(1))
    let known = table.remember(Self.identity(5), mode: .container, link: Self.link(table, "a"))
    let planted = Self.link(table, "b")
    let (same, isNew) = table.meet(Self.identity(5), mode: .container, link: planted)
    #expect(same === known && !isNew && !known.isKnown(as: planted))
    let apart = table.setApart(same, isNew: isNew, link: planted)
    #expect(apart.nodeid != known.nodeid && apart.isKnown(as: planted))
    #expect(table.find(Self.identity(5)) === known)
    // Each goes with its own lookups.
    table.forget(known.nodeid, count: 1)
    #expect(table.inode(known.nodeid) == nil && table.inode(apart.nodeid) === apart)
    table.forget(apart.nodeid, count: 1)
    #expect(table.count == 1)
    // The first name that is seen may be the planted one.
    let (first, isFirst) = table.meet(Self.identity(5), mode: .container, link: planted)
    #expect(isFirst && table.setApart(first, isNew: isFirst, link: planted) === first)
    let real = table.remember(Self.identity(5), mode: .container, link: Self.link(table, "a"))
    #expect(real !== first)
  }

  @Test func twoNamesOfOneInodeShareANodeid() {
    let table = Self.table()
    let first = table.remember(Self.identity(5), mode: .container, link: Self.link(table, "a"))
    let second = table.remember(Self.identity(5), mode: .container, link: Self.link(table, "b"))
    #expect(first === second)
    #expect(first.links.map(\.name) == [Array("a".utf8), Array("b".utf8)])
  }

  @Test func inodeGoesWithItsLastLookup() {
    let table = Self.table()
    let link = Self.link(table, "a")
    let inode = table.remember(Self.identity(5), mode: .plain, link: link)
    _ = table.remember(Self.identity(5), mode: .plain, link: link)
    table.forget(inode.nodeid, count: 1)
    #expect(table.inode(inode.nodeid) === inode)
    table.forget(inode.nodeid, count: 1)
    #expect(table.inode(inode.nodeid) == nil)
    #expect(table.find(Self.identity(5)) == nil)
    #expect(table.count == 1)
  }

  @Test func nodeidIsNotUsedAgainWithItsSlot() {
    let table = Self.table()
    let link = Self.link(table, "a")
    let first = table.remember(Self.identity(5), mode: .plain, link: link)
    table.forget(first.nodeid, count: 1)
    let second = table.remember(Self.identity(6), mode: .plain, link: link)
    #expect(UInt32(truncatingIfNeeded: first.nodeid) == UInt32(truncatingIfNeeded: second.nodeid))
    #expect(first.nodeid != second.nodeid)
    #expect(table.inode(first.nodeid) == nil)
    // A late FORGET of the old nodeid must not touch the new inode.
    table.forget(first.nodeid, count: 1)
    #expect(table.inode(second.nodeid) === second)
  }

  @Test func numberOfARemovedInodeComesBackAsAnotherInode() {
    let table = Self.table()
    let link = Self.link(table, "a")
    let removed = table.remember(Self.identity(5, birth: 0), mode: .container, link: link)
    table.detach(removed)
    let new = table.remember(Self.identity(5, birth: 0), mode: .container, link: link)
    #expect(new !== removed)
    #expect(table.inode(removed.nodeid) === removed)
    table.forget(removed.nodeid, count: 1)
    #expect(table.find(Self.identity(5, birth: 0)) === new)
  }

  @Test func birthTimeTellsInodesOfOneNumberApart() {
    let table = Self.table()
    let link = Self.link(table, "a")
    let old = table.remember(Self.identity(5, birth: 1), mode: .plain, link: link)
    let new = table.remember(Self.identity(5, birth: 2), mode: .plain, link: link)
    #expect(old !== new)
  }

  @Test func modeOfANodeidNeverChanges() {
    let table = Self.table()
    let link = Self.link(table, "a")
    let plain = table.remember(Self.identity(5), mode: .plain, link: link)
    let container = table.remember(Self.identity(5), mode: .container, link: link)
    #expect(plain !== container)
    #expect(plain.mode == .plain)
    #expect(table.find(Self.identity(5)) === container)
  }

  @Test func lookupsHeldByTheMountOutliveTheKernels() {
    let table = Self.table()
    let inode = table.remember(Self.identity(5), mode: .container, link: Self.link(table, "a"))
    table.retain(inode)
    table.forget(inode.nodeid, count: 1)
    #expect(table.find(Self.identity(5)) === inode)
    table.forget(inode.nodeid, count: 1)
    #expect(table.find(Self.identity(5)) == nil)
  }

  @Test func removingTheFirstNameLeavesAnother() {
    let table = Self.table()
    let inode = table.remember(Self.identity(5), mode: .container, link: Self.link(table, "a"))
    inode.add(Self.link(table, "b"))
    inode.remove(Self.link(table, "a"))
    #expect(inode.link?.name == Array("b".utf8))
    inode.remove(Self.link(table, "unknown"))
    inode.remove(Self.link(table, "b"))
    #expect(inode.link == nil)
  }

  @Test func tableAgreesWithAModelThroughRandomOperations() {
    var random = SeededRandom(for: "inode table")
    let table = Self.table()
    var model: [UInt64: (inode: Inode, lookups: UInt64)] = [:]
    for _ in 0..<20_000 {
      // Few numbers, so that slots, hashes and identities collide often.
      let number = UInt64.random(in: 2...300, using: &random)
      let link = Self.link(table, "n\(number)")
      if Bool.random(using: &random) {
        let inode = table.remember(Self.identity(number), mode: .plain, link: link)
        if let known = model[number] { #expect(known.inode === inode) }
        model[number] = (inode, (model[number]?.lookups ?? 0) + 1)
      } else if let known = model[number] {
        let count = UInt64.random(in: 1...known.lookups, using: &random)
        table.forget(known.inode.nodeid, count: count)
        model[number] = count == known.lookups ? nil : (known.inode, known.lookups - count)
      } else {
        #expect(table.find(Self.identity(number)) == nil)
      }
    }
    #expect(table.count == model.count + 1)
    for (number, known) in model {
      #expect(table.find(Self.identity(number)) === known.inode)
      #expect(table.inode(known.inode.nodeid) === known.inode)
    }
  }
}

@Suite struct InodeIndexTests {
  @Test func entriesWithOneHashAreAllFoundAndRemoved() {
    var index = InodeIndex()
    let hashOf: (UInt32) -> UInt64 = { _ in 1023 }
    for slot in UInt32(0)..<50 { index.insert(slot: slot, hash: 1023, hashOf: hashOf) }
    for slot in stride(from: UInt32(0), to: 50, by: 2) {
      index.remove(slot: slot, hash: 1023, hashOf: hashOf)
    }
    for slot in UInt32(0)..<50 {
      #expect((index.find(hash: 1023) { $0 == slot } != nil) == (slot % 2 == 1))
    }
    #expect(index.count == 25)
  }
}
