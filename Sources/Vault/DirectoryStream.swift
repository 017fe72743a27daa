public import Primitives
import Container
import Synchronization
import SystemPackage

/// Lists a directory from any position; each stream has its own descriptor.
public final class DirectoryStream: Sendable {
  /// One entry of a listing.
  public struct Item: Sendable {
    /// The plain name; `.` and `..` are listed too.
    public let name: [UInt8]
    /// The backing inode's number.
    public let inode: UInt64
    /// What a listing says it is: a long link is a symbolic link.
    public let kind: FileKind
    /// How it is stored; nil for `.` and `..`.
    public let entryKind: EntryKind?
    /// The name in the backing directory.
    public let backingName: [UInt8]
    /// Where the listing goes on after this entry.
    public let cookie: Int64
    /// Why a lookup of this entry fails, as far as a listing can tell.
    public let problem: String?
  }

  /// Something in the backing directory that is no entry.
  public struct Stray: Sendable {
    /// Its name there.
    public let backingName: [UInt8]
    /// The inode's number.
    public let inode: UInt64
    /// Why it is not shown.
    public let reason: String
  }

  private let directory: VaultDirectory
  private let descriptor: SharedFD
  private let reader: Mutex<Reader>

  private struct Reader: ~Copyable {
    var reader: DirectoryReader
    /// Where the listing goes on.
    var position: Int64 = 0
    var strays: [Stray] = []
  }

  init(_ directory: VaultDirectory, _ descriptor: SharedFD) {
    self.directory = directory
    self.descriptor = descriptor
    reader = Mutex(Reader(reader: DirectoryReader(descriptor.rawValue)))
  }

  /// Goes to a position.
  ///
  /// - Parameter cookie: Zero for the beginning, or an item's cookie.
  /// - Throws: `.system`.
  public func seek(to cookie: Int64) throws(VaultError) {
    try reader.withLock { (reader) throws(VaultError) in
      try attempt("seeking in a directory") { () throws(Errno) in
        try reader.reader.seek(to: cookie)
      }
      reader.position = cookie
    }
  }

  /// The next entry; nil at the end. Reserved names are left out, what does not decode goes to
  /// `takeStrays`.
  ///
  /// - Throws: `.system`.
  public func next() throws(VaultError) -> Item? {
    let view = directory.view
    return try reader.withLock { (reader) throws(VaultError) -> Item? in
      while true {
        let raw = try attempt("reading a directory") { () throws(Errno) -> RawEntry? in
          guard let entry = try reader.reader.next() else { return nil }
          return RawEntry(
            name: [UInt8](entry.name), inode: entry.inode, kind: entry.kind,
            cookie: entry.nextOffset, isDot: entry.isDot)
        }
        guard let raw else { return nil }
        let before = reader.position
        reader.position = raw.cookie
        if raw.isDot {
          return Item(
            name: raw.name, inode: raw.inode, kind: .directory, entryKind: nil,
            backingName: raw.name,
            cookie: raw.cookie, problem: nil)
        }
        let decision: Decision
        do throws(VaultError) {
          decision = try decode(raw, view)
        } catch {
          // Whoever goes on after the error must not get past the entry.
          try? reader.reader.seek(to: before)
          reader.position = before
          throw error
        }
        switch decision {
        case .item(let item): return item
        case .skip: directory.sweep(raw.name, raw.kind, descriptor.rawValue)
        case .stray(let stray): if reader.strays.count < 1000 { reader.strays.append(stray) }
        }
      }
    }
  }

  /// What was met since the last call that is no entry, for `check` and log lines; at most 1000.
  public func takeStrays() -> [Stray] {
    reader.withLock { reader in
      defer { reader.strays = [] }
      return reader.strays
    }
  }

  private struct RawEntry {
    var name: [UInt8]
    var inode: UInt64
    var kind: FileKind
    var cookie: Int64
    var isDot: Bool
  }

  private enum Decision {
    case item(Item)
    case skip
    case stray(Stray)
  }

  private func decode(
    _ raw: RawEntry, _ view: DirectoryView
  ) throws(VaultError) -> Decision {
    switch try directory.plainName(raw.name, view, descriptor.rawValue) {
    case .hidden: return .skip
    case .unknown:
      return .stray(
        Stray(
          backingName: raw.name, inode: raw.inode,
          reason: "the name is not one this directory has"))
    case .known(let name, let kind, let terms):
      let file = raw.kind == .unknown ? fileKind(raw.name) : raw.kind
      let mode = VaultDirectory.mode(kind, file, terms)
      return .item(
        Item(
          name: name, inode: raw.inode, kind: mode == .longLink ? .symbolicLink : file,
          entryKind: kind, backingName: raw.name, cookie: raw.cookie,
          problem: mode == nil ? "an entry of a kind the directory does not have" : nil))
    }
  }

  private func fileKind(_ name: [UInt8]) -> FileKind {
    (try? Sys.statx(descriptor.rawValue, name, fields: .type))?.kind ?? .unknown
  }
}

extension VaultDirectory {
  /// Starts a listing.
  ///
  /// - Throws: `.system`.
  public func openStream() throws(VaultError) -> DirectoryStream {
    _ = try viewWithAlternates()
    let flags: OpenFlags = [.readOnly, .directory]
    guard !context.isWritable else { return DirectoryStream(self, try reopened(flags)) }
    let descriptor = try descriptor()
    let listing = try attempt("opening a directory") { () throws(Errno) in
      SharedFD(try context.openForReading(descriptor.rawValue, [UInt8(ascii: ".")], .directory))
    }
    return DirectoryStream(self, listing)
  }

  /// Every entry, without `.` and `..`, for walks that need no cookies.
  ///
  /// - Throws: `.system`.
  public func list() throws(VaultError) -> [DirectoryStream.Item] {
    let stream = try openStream()
    var items: [DirectoryStream.Item] = []
    while let item = try stream.next() {
      if item.name != [46], item.name != [46, 46] { items.append(item) }
    }
    return items
  }

  enum Plain {
    case known(name: [UInt8], kind: EntryKind, terms: EntryTerms)
    case hidden
    case unknown
  }

  /// What a backing name is here, under the directory's own ID, those of alternates, or as a
  /// synchronising tool's copy.
  ///
  /// - Throws: `.system` if the full form of a long name cannot be read.
  func plainName(
    _ backing: [UInt8], _ view: DirectoryView, _ directory: Int32
  ) throws(VaultError) -> Plain {
    var failure: VaultError?
    let plain = plainName(backing, view) { name in
      do throws(VaultError) {
        return try readSidecar(name, directory)
      } catch {
        failure = error
        return nil
      }
    }
    if let failure { throw failure }
    return plain
  }

  private func plainName(
    _ backing: [UInt8], _ view: DirectoryView, sidecar: ([UInt8]) -> [UInt8]?
  ) -> Plain {
    let terms = view.terms
    if terms.names == .sealed, let key = nameCache.plainName(backing) {
      context.nameLookups.countHit()
      return .known(name: key.name, kind: key.kind, terms: terms)
    }
    switch view.coder.decode(backing, sidecar: sidecar) {
    case .entry(let name, let kind):
      if terms.names == .sealed, backing[0] != Format.longPrefix {
        nameCache.offer(NameCache.Key(name: name, kind: kind), backing)
        context.nameLookups.countMiss()
      }
      return .known(name: name, kind: kind, terms: terms)
    case .reserved, .sidecar: return .hidden
    case .unknown: break
    }
    guard terms.names == .sealed else { return .unknown }
    for alternate in view.alternates {
      let coder = NameCoder(keys: context.keys, id: alternate.id, policy: alternate.names)
      if case .entry(let name, let kind) = coder.decode(backing, sidecar: sidecar) {
        return .known(name: name, kind: kind, terms: alternate.terms)
      }
    }
    guard let conflict = ConflictName(backing) else { return .unknown }
    for record in [view.record] + view.alternates {
      let coder = NameCoder(keys: context.keys, id: record.id, policy: record.names)
      if case .entry(let name, let kind) = coder.decode(conflict.original, sidecar: sidecar) {
        let shown = ConflictName.shown(name, addition: conflict.addition)
        guard isValidName(shown) else { return .unknown }
        return .known(name: shown, kind: kind, terms: record.terms)
      }
    }
    return .unknown
  }
}
