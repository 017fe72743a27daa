import Container
import Logging
import Primitives
import SystemPackage
import TestSupport

@testable import Vault

/// Judges the states in which a power cut may leave the folder of a script's vault.
struct CutStates {
  private(set) var states = 0
  private(set) var problems: [String] = []

  private let script: CutScript

  init(_ script: CutScript) {
    self.script = script
  }

  /// Goes through the states of the script.
  ///
  /// - Parameters:
  ///   - orders: What the backing filesystem promises.
  ///   - samples: How many random states are made at each point and in each order.
  ///   - limit: Stops after this many problems.
  ///   - random: Chooses the states.
  /// - Throws: What making a state in a folder gave.
  mutating func run(
    _ orders: [PowerCuts.Order] = PowerCuts.Order.allCases, samples: Int, limit: Int = 5,
    _ random: inout SeededRandom
  ) throws {
    var seen: Set<Int> = []
    for sector in [512, 4096] {
      var cuts = PowerCuts(script.recorder, sector: sector)
      repeat {
        for order in orders {
          var images = [cuts.barest(order)]
          if order == .journal { images.append(cuts.complete) }
          for _ in 0..<samples { images.append(cuts.sample(order, &random)) }
          for image in images where seen.insert(image.fingerprint &+ cuts.position).inserted {
            states += 1
            let found = try judge(image, cuts.position, order, goesOn: states % 8 == 0)
            problems += found.map { "\(order), \(cuts.position) of \(sector): \($0)" }
            if problems.count >= limit { return }
          }
        }
      } while cuts.advance()
    }
  }

  private func judge(
    _ image: DiskImage, _ position: Int, _ order: PowerCuts.Order, goesOn: Bool
  ) throws -> [String] {
    let folder = try TemporaryDirectory()
    try image.write(to: folder.descriptor.rawValue)
    var problems: [String] = []
    guard let vault = open(folder.path, position, &problems) else { return problems }
    let found = vault.root.everything(&problems)
    problems += compare(found, position, order)
    if goesOn, problems.isEmpty { problems += try live(vault, folder, found, position) }
    return problems
  }

  /// Opens with one of the secrets that may count at that point.
  private func open(_ path: String, _ position: Int, _ problems: inout [String]) -> Vault? {
    let begun = begun(position)
    let certain = script.secrets.lastIndex { $0.step < 0 || script.steps[$0.step].end <= position }
    for (step, secret) in script.secrets[(certain ?? 0)...] where step < begun {
      do {
        return try Vault.open(at: path, secret: secret, access: .readWrite, logger: .silent)
      } catch VaultError.wrongSecret {
        continue
      } catch {
        problems.append("opening: \(error)")
        return nil
      }
    }
    problems.append("no secret opens the vault")
    return nil
  }

  private func begun(_ position: Int) -> Int { script.steps.count { $0.begin < position } }

  // MARK: Comparison

  /// The contents that a file may have.
  private func isAllowed(_ found: Found?, _ node: CutScript.Node?, _ position: Int) -> Bool {
    switch (found, node?.kind) {
    case (nil, nil), (.directory, .directory), (.file, .plainFile): return true
    case (.link(let target), .link(let made)): return target == made
    case (.file(let content), .file):
      guard let node else { return false }
      let first = node.synced.last { $0.logged <= position }?.version ?? 0
      let begun = begun(position)
      return node.versions[first...].contains { $0.step < begun && $0.content == content }
    default: return false
    }
  }

  private func compare(
    _ found: [String: Found], _ position: Int, _ order: PowerCuts.Order
  ) -> [String] {
    let begun = begun(position)
    let possible = script.names[0...begun]
    let paths = Set(possible.flatMap(\.keys)).union(found.keys).sorted()
    var problems: [String] = []
    for path in paths {
      let folder = CutScript.folder(of: path)
      let isFolderThere = folder.isEmpty || found[folder] == .directory
      let promised = script.promises.last { $0.logged <= position && $0.folder == folder }
      let first = isFolderThere ? promised?.step ?? 0 : 0
      if !possible[first...].contains(where: { isAllowed(found[path], $0[path], position) }) {
        problems.append("\(path) is \(describe(found[path]))")
      }
    }
    problems += missing(found, possible, position)
    if order == .journal, problems.isEmpty, !isBetweenTwoSteps(found, paths, possible, position) {
      problems.append("the names are those of no moment: \(found.keys.sorted())")
    }
    return problems
  }

  /// Synced files that have no name, although nobody took it away.
  private func missing(
    _ found: [String: Found], _ possible: ArraySlice<CutScript.Names>, _ position: Int
  ) -> [String] {
    var problems: [String] = []
    for (path, node) in possible.flatMap({ $0 }) where node.kind == .file {
      guard let step = node.synced.last(where: { $0.logged <= position })?.step,
        possible[(step + 1)...].allSatisfy({ $0.values.contains { $0 === node } })
      else { continue }
      let isThere = possible.contains { names in
        names.contains { $0.value === node && isAllowed(found[$0.key], node, position) }
      }
      if !isThere { problems.append("the synced file \(path) is gone") }
    }
    return problems
  }

  private func isBetweenTwoSteps(
    _ found: [String: Found], _ paths: [String], _ possible: ArraySlice<CutScript.Names>,
    _ position: Int
  ) -> Bool {
    possible.indices.contains { step in
      let next = min(step + 1, possible.endIndex - 1)
      return paths.allSatisfy { path in
        isAllowed(found[path], possible[step][path], position)
          || isAllowed(found[path], possible[next][path], position)
      }
    }
  }

  private func describe(_ found: Found?) -> String {
    switch found {
    case nil: "missing"
    case .special: "a special file"
    case .directory: "a directory"
    case .file(let content): "a file of \(content.count) bytes: \(content.prefix(4))"
    case .link(let target): "a link to \(String(decoding: target, as: UTF8.self))"
    }
  }

  // MARK: Afterwards

  /// Life goes on, and the next session finds what this one left.
  private func live(
    _ vault: Vault, _ folder: TemporaryDirectory, _ found: [String: Found], _ position: Int
  ) throws -> [String] {
    var problems: [String] = []
    do {
      let made = try vault.root.makeDirectory("afterwards")
      try vault.root.makeFile("new", bytes("made after the cut"))
      try vault.root.rename(bytes("new"), to: made, bytes("newer"))
      try vault.close()
    } catch {
      return ["life does not go on: \(error)"]
    }
    var expected = found
    expected["afterwards"] = .directory
    expected["afterwards/newer"] = .file(bytes("made after the cut"))
    guard let next = open(folder.path, position, &problems) else { return problems }
    if next.root.everything(&problems) != expected { problems.append("the next session differs") }
    try next.close()
    return problems + check(folder.path, position)
  }

  private func check(_ path: String, _ position: Int) -> [String] {
    var problems: [String] = []
    let options = CheckOptions(isDeep: true, repairs: false, lostAndFound: "lost+found")
    for (_, secret) in script.secrets {
      guard
        let checked = try? Vault.openForCheck(
          at: path, secret: secret, options: options, logger: .silent)
      else { continue }
      let checker = Checker(checked, options: options) {
        if $0.severity == .damage { problems.append("check: \($0.reason)") }
      } advance: { _ in
      }
      do { try checker?.run() } catch { problems.append("check: \(error)") }
      return problems
    }
    return ["check opens with no secret"]
  }
}
