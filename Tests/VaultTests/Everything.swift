import Logging
import Primitives

@testable import Vault

/// What an entry is found to be.
enum Found: Equatable {
  case directory
  case file([UInt8])
  case link([UInt8])
  case special
}

extension Logger {
  /// For damage that a test makes on purpose.
  static var silent: Logger { Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() } }
}

extension VaultDirectory {
  /// Every entry at and below a directory, by its path, read whole; what cannot be read is a
  /// problem.
  func everything(_ problems: inout [String], at path: String = "") -> [String: Found] {
    var found: [String: Found] = [:]
    do {
      let stream = try openStream()
      while let item = try stream.next() {
        guard item.entryKind != nil else { continue }
        let inner = (path.isEmpty ? "" : path + "/") + String(decoding: item.name, as: UTF8.self)
        do {
          try add(item.name, to: &found, &problems, inner)
        } catch {
          problems.append("\(inner): \(error)")
        }
      }
      for stray in stream.takeStrays() { problems.append("\(path): \(stray.reason)") }
    } catch {
      problems.append("\(path): \(error)")
    }
    return found
  }

  private func add(
    _ name: [UInt8], to found: inout [String: Found], _ problems: inout [String], _ path: String
  ) throws {
    guard let entry = try lookup(name) else {
      problems.append("\(path) is listed, but not there")
      return
    }
    switch entry.mode {
    case .directory:
      found[path] = .directory
      found.merge(try openDirectory(entry).everything(&problems, at: path)) { $1 }
    case .symbolicLink, .longLink: found[path] = .link(try readLink(entry))
    case .container, .plain: found[path] = .file(try content(name))
    case .special: found[path] = .special
    }
  }
}
