import Container
import Primitives
import SystemPackage
import Vault

/// Looks at a vault with its key: which directories hold what, and whether that is what their policies say.
struct AuditOwner {
  private let steps = StepCounter()

  static func run(_ vault: Vault) throws -> AuditNode {
    let audit = AuditOwner()
    defer { audit.steps.end() }
    return audit.enter(vault.root, [UInt8(ascii: "/")])
  }

  private func enter(_ directory: VaultDirectory, _ name: [UInt8]) -> AuditNode {
    let node = AuditNode(name)
    let record = directory.record
    node.policy = AuditNode.Policy(
      content: record.content, names: record.names.name, rules: record.rules.count)
    do throws(VaultError) {
      let folder = try directory.descriptor()
      for item in try directory.list() {
        do throws(VaultError) {
          guard let entry = try directory.lookup(item.name) else { continue }
          try take(entry, directory, folder, node)
        } catch {
          node.problem =
            "\(StatusText.safe(String(decoding: item.name, as: UTF8.self))): \(Failure(describing: error)?.message ?? "unreadable")"
        }
      }
    } catch {
      node.problem = Failure(describing: error)?.message ?? "unreadable"
    }
    node.finish()
    return node
  }

  private func take(
    _ entry: VaultEntry, _ directory: VaultDirectory, _ folder: SharedFD, _ node: AuditNode
  ) throws(VaultError) {
    steps.step()
    node.entries += 1
    if directory.namePolicy == .plain { node.readableNames += 1 }
    switch entry.mode {
    case .directory:
      node.children.append(enter(try directory.openDirectory(entry), entry.name))
    case .plain, .container:
      let stored =
        entry.mode == .plain
        ? nil : (try? AuditScan.storedPolicy(folder.rawValue, entry.backingName)) ?? .sealed
      let policy = stored ?? .plain
      node.add(policy, name: entry.name, bytes: entry.status.size)
      if policy != directory.record.policy(for: entry.name) { node.policy?.unconverted += 1 }
    case .symbolicLink:
      node.links += 1
      let target = try? Sys.readlinkat(folder.rawValue, entry.backingName)
      if target?.starts(with: Array(".scrim-l.".utf8)) == false {
        node.readableTargets += 1
        if directory.contentPolicy != .plain { node.policy?.unconverted += 1 }
      }
    case .longLink: node.links += 1
    case .special: break
    }
  }
}
