import Primitives

/// The states in which a power cut may leave a folder, at each point of a log.
public struct PowerCuts {
  /// What a filesystem promises about the order in which changes of names and attributes arrive.
  public enum Order: CaseIterable, Sendable {
    /// As they were made, like a journal's: what arrived is all up to a point.
    case journal
    /// Any, between changes that concern no file or directory in common.
    case loose
  }

  private let log: [DiskChange]
  private let sector: Int
  /// How many changes of the log are made.
  public private(set) var position = 0
  /// Folds all of it, for what a name meant when it was changed.
  private var present: DiskImage
  private let start: DiskImage
  private var files: [Int: SectorHistory] = [:]
  private var metadata: [Metadata] = []
  /// How many of `metadata` a journal has certainly written.
  private var journaled = 0
  /// The last of `metadata` that a sync of a file or directory brings along, as a count.
  private var lastChange: [Int: Int] = [:]
  private var lastResize: [Int: Int] = [:]

  private struct Metadata {
    let change: DiskChange
    /// Earlier ones that arrive no later.
    let needs: [Int]
    /// Files and directories concerned.
    let nodes: [Int]
    var isDurable = false
  }

  private var lastOf: [Int: Int] = [:]

  /// Starts before the log's first change.
  ///
  /// - Parameters:
  ///   - recorder: What was recorded.
  ///   - sector: Bytes that are written as one: 512 or 4096.
  public init(_ recorder: DiskRecorder, sector: Int) {
    log = recorder.log
    start = recorder.start
    present = recorder.start
    self.sector = sector
    for (number, node) in start.nodes where node.kind == .regular {
      files[number] = SectorHistory(node.content, sector: sector)
    }
  }

  /// Makes the next change.
  ///
  /// - Returns: Whether there was one.
  public mutating func advance() -> Bool {
    guard position < log.count else { return false }
    let change = log[position]
    position += 1
    switch change {
    case .write(let node, let offset, let bytes):
      let length = files[node]?.length ?? 0
      files[node]?.write(bytes, at: offset)
      if offset + bytes.count > length { lastResize[node] = metadata.count }
      lastChange[node] = metadata.count
    case .resize(let node, let length):
      files[node]?.resize(to: length)
      lastResize[node] = metadata.count
      lastChange[node] = metadata.count
    case .sync(let node):
      files[node]?.sync()
      journaled = max(journaled, lastChange[node] ?? 0)
      markDurable { $0.nodes.contains(node) }
    case .syncData(let node):
      files[node]?.sync()
      journaled = max(journaled, lastResize[node] ?? 0)
      markDurable {
        if case .make(node, _, _, _, _) = $0.change { true } else { false }
      }
    case .syncAll:
      for node in files.keys { files[node]?.sync() }
      journaled = metadata.count
      markDurable { _ in true }
    default: note(change)
    }
    return true
  }

  private mutating func note(_ change: DiskChange) {
    let nodes = concerned(change)
    let needs = Set(nodes.compactMap { lastOf[$0] })
    metadata.append(Metadata(change: change, needs: needs.sorted(), nodes: nodes))
    for node in nodes {
      lastOf[node] = metadata.count - 1
      lastChange[node] = metadata.count
    }
    if case .make(let node, .regular, _, _, _) = change {
      files[node] = SectorHistory([], sector: sector)
      lastResize[node] = metadata.count
    }
    present.apply(change)
  }

  private func concerned(_ change: DiskChange) -> [Int] {
    let nodes: [Int?] =
      switch change {
      case .make(let node, _, _, let directory, _): [node, directory]
      case .link(let node, let directory, _): [node, directory]
      case .unlink(let directory, let name): [directory, present.nodes[directory]?.entries[name]]
      case .rename(let from, let old, let into, let new, _):
        [from, into, present.nodes[from]?.entries[old], present.nodes[into]?.entries[new]]
      case .setAttribute(let node, _, _): [node]
      case .write, .resize, .sync, .syncData, .syncAll: []
      }
    return Set(nodes.compactMap { $0 }).sorted()
  }

  private mutating func markDurable(_ isMeant: (Metadata) -> Bool) {
    var waiting = metadata.indices.filter { isMeant(metadata[$0]) }
    while let index = waiting.popLast() {
      if metadata[index].isDurable { continue }
      metadata[index].isDurable = true
      waiting += metadata[index].needs
    }
  }

  // MARK: States

  /// The state in which everything arrived.
  public var complete: DiskImage { state(metadata.map { _ in true }) { $0.newest } }

  /// The state in which nothing arrived that no sync asked for.
  public func barest(_ order: Order) -> DiskImage {
    let chosen = metadata.indices.map { index in
      switch order {
      case .journal: index < journaled
      case .loose: metadata[index].isDurable
      }
    }
    return state(chosen) { $0.oldest }
  }

  /// A random state.
  public func sample(_ order: Order, _ random: inout SeededRandom) -> DiskImage {
    var chosen = [Bool](repeating: false, count: metadata.count)
    switch order {
    case .journal:
      let count = Int.random(in: journaled...metadata.count, using: &random)
      for index in 0..<count { chosen[index] = true }
    case .loose:
      let luck = [20, 50, 80, 95].randomElement(using: &random) ?? 50
      for index in chosen.indices {
        chosen[index] =
          metadata[index].isDurable
          || (metadata[index].needs.allSatisfy { chosen[$0] }
            && Int.random(in: 0..<100, using: &random) < luck)
      }
    }
    let style = Int.random(in: 0..<3, using: &random)
    return state(chosen) { file in
      switch style {
      case 0: file.newest
      case 1: file.oldest
      default: file.sample(&random)
      }
    }
  }

  private func state(_ chosen: [Bool], _ content: (SectorHistory) -> [UInt8]) -> DiskImage {
    var image = start
    for (index, entry) in metadata.enumerated() where chosen[index] { image.apply(entry.change) }
    for (number, file) in files.sorted(by: { $0.key < $1.key }) {
      image.nodes[number]?.content = content(file)
    }
    return image
  }
}

/// What each sector of a file has held since the last sync, and which lengths the file had.
struct SectorHistory {
  private let sector: Int
  /// Oldest first; a sector not listed is zero.
  private var versions: [[[UInt8]]] = []
  private var lengths: [Int]
  private(set) var length: Int

  init(_ content: [UInt8], sector: Int) {
    self.sector = sector
    length = content.count
    lengths = [content.count]
    for start in stride(from: 0, to: content.count, by: sector) {
      let bytes = content[start..<min(start + sector, content.count)]
      versions.append([bytes + [UInt8](repeating: 0, count: sector - bytes.count)])
    }
  }

  mutating func write(_ bytes: [UInt8], at offset: Int) {
    let end = offset + bytes.count
    while versions.count * sector < end { versions.append([[UInt8](repeating: 0, count: sector)]) }
    for index in (offset / sector)..<((end + sector - 1) / sector) {
      let from = max(offset, index * sector)
      let to = min(end, (index + 1) * sector)
      var new = versions[index][versions[index].count - 1]
      new.replaceSubrange(
        (from - index * sector)..<(to - index * sector),
        with: bytes[(from - offset)..<(to - offset)])
      versions[index].append(new)
    }
    setLength(max(length, end))
  }

  mutating func resize(to new: Int) {
    for index in versions.indices where (index + 1) * sector > new {
      var cut = versions[index][versions[index].count - 1]
      let kept = max(0, new - index * sector)
      cut.replaceSubrange(kept..., with: [UInt8](repeating: 0, count: sector - kept))
      versions[index].append(cut)
    }
    setLength(new)
  }

  mutating func sync() {
    for index in versions.indices { versions[index].removeFirst(versions[index].count - 1) }
    lengths = [length]
  }

  private mutating func setLength(_ new: Int) {
    length = new
    if lengths.last != new { lengths.append(new) }
  }

  var newest: [UInt8] { content(length: length) { $0 - 1 } }
  var oldest: [UInt8] { content(length: lengths[0]) { _ in 0 } }

  func sample(_ random: inout SeededRandom) -> [UInt8] {
    let length =
      random.chance(oneIn: 2) ? lengths.randomElement(using: &random) ?? self.length : self.length
    let isMostlyNew = random.chance(oneIn: 2)
    return content(length: length) { count in
      if isMostlyNew, !random.chance(oneIn: 5) { return count - 1 }
      return Int.random(in: 0..<count, using: &random)
    }
  }

  private func content(length: Int, _ choose: (Int) -> Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(versions.count * sector)
    for sector in versions { bytes += sector[choose(sector.count)] }
    if bytes.count > length {
      bytes.removeLast(bytes.count - length)
    } else {
      bytes += [UInt8](repeating: 0, count: length - bytes.count)
    }
    return bytes
  }
}
