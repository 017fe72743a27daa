import Container
import Primitives
import SystemPackage
import Vault

/// Looks at a vault's folder as someone without a key can.
struct AuditScan {
  private let steps = StepCounter()

  /// Goes through `tree/` of an open vault folder.
  static func run(vault: PathArgument) throws -> AuditNode {
    let tree = vault.bytes + Array("/tree".utf8)
    do throws(Errno) {
      let folder = SharedFD(
        try Sys.openat(Sys.currentDirectory, tree, [.readOnly, .directory]))
      let scan = AuditScan()
      defer { scan.steps.end() }
      return scan.enter(folder, [UInt8(ascii: "/")])
    } catch {
      throw Failure(.system, "\(String(decoding: tree, as: UTF8.self)): \(error)")
    }
  }

  private func enter(_ folder: SharedFD, _ name: [UInt8]) -> AuditNode {
    let node = AuditNode(name)
    do throws(Errno) {
      for entry in try Sys.entries(of: folder.rawValue) {
        guard let shown = StoredName(entry.name) else { continue }
        do throws(Errno) {
          try take(entry.name, shown, folder, node)
        } catch {
          node.problem = "\(StatusText.safe(String(decoding: entry.name, as: UTF8.self))): \(error)"
        }
      }
    } catch {
      node.problem = "\(error)"
    }
    node.finish()
    return node
  }

  private func take(
    _ name: [UInt8], _ shown: StoredName, _ folder: SharedFD, _ node: AuditNode
  ) throws(Errno) {
    steps.step()
    let status = try Sys.statx(folder.rawValue, name)
    node.entries += 1
    if !shown.isSealed { node.readableNames += 1 }
    switch status.kind {
    case .directory:
      let inner = SharedFD(
        try Sys.openat(folder.rawValue, name, [.readOnly, .directory, .noFollow]))
      node.children.append(enter(inner, shown.text))
    case .regular:
      let policy = try Self.storedPolicy(folder.rawValue, name) ?? .plain
      node.add(policy, name: shown.text, bytes: status.size)
    case .symbolicLink:
      node.links += 1
      let target = try Sys.readlinkat(folder.rawValue, name)
      if !target.starts(with: Array(".scrim-l.".utf8)) { node.readableTargets += 1 }
    case .fifo, .socket, .characterDevice, .blockDevice, .unknown: break
    }
  }

  /// The policy that a container's header says in clear (format §8.1); nil for what is no container.
  static func storedPolicy(_ folder: Int32, _ name: [UInt8]) throws(Errno) -> ContentPolicy? {
    let file = try Sys.openat(folder, name, [.readOnly, .noFollow, .nonBlocking])
    var head = [UInt8](repeating: 0, count: 9)
    var count = 0
    let outcome = head.withUnsafeMutableBytes { buffer -> Result<Int, Errno> in
      do throws(Errno) { return .success(try Sys.pread(file.rawValue, buffer, at: 0)) } catch {
        return .failure(error)
      }
    }
    count = try outcome.get()
    guard count == 9, head.starts(with: Array("SCRIMCTR".utf8)), head[8] != 0 else { return nil }
    return ContentPolicy(rawValue: head[8])
  }
}

/// A name in the backing folder, told apart by its form (format §6).
struct StoredName {
  /// What a reader without a key makes of it.
  let text: [UInt8]
  let isSealed: Bool

  /// nil for what is no entry.
  init?(_ stored: [UInt8]) {
    func ends(_ suffix: String) -> Bool {
      stored.suffix(suffix.utf8.count) == Array(suffix.utf8)[...]
    }
    let sealed = ends(".p") || ends(".s") || ends(".l") ? Array(stored.dropLast(2)) : stored
    let hashed = sealed.first == UInt8(ascii: "~")
    if hashed, ends(".n"), stored.count == 46 { return nil }
    let body = Base64URL.decode(hashed ? Array(sealed.dropFirst()) : sealed)
    if let body, hashed ? body.count == 32 : body.count >= 32 && body.count % 16 == 0 {
      (text, isSealed) = (stored, true)
      return
    }
    isSealed = false
    if stored.starts(with: Array(".scrim-h.".utf8)), !ends(".n") {
      text = stored
    } else if stored.starts(with: Array(".scrim-n.".utf8)) {
      text = Array(stored.dropFirst(9).dropLast(ends(".scrim-c") ? 9 : 1))
    } else if stored.starts(with: Array(".scrim-".utf8)) {
      return nil
    } else {
      text = ends(".scrim-c") || ends(".scrim-l") ? Array(stored.dropLast(8)) : stored
    }
  }
}
