import Container
import Synchronization
import Vault

/// Lock order of the file system, outermost first. A thread takes only locks further down than those
/// it holds, and replies to the kernel after dropping all of them:
///
/// 1. `OpenFile.lock`: of two files (copy, rename) the one with the lower nodeid first;
/// 2. locks inside Vault and Container objects (directory records, containers);
/// 3. `Inode.state`;
/// 4. the short ones, never held across a system call: `InodeTable`, `DirectoryCache`, `HandleTable`,
///    `Maintenance`, `IntegrityLog`.
///
/// Only those of 1 and 2 are held across I/O, and each belongs to one file or directory.
///
/// An object the kernel knows: one backing inode, whatever names it has.
///
/// It holds no descriptor unless it is open. Everything about it that never changes is a `let`,
/// above all `mode`: requests are told apart by it once, and kernel caches rely on it.
final class Inode: Sendable {
  /// A name of this object. The strong reference upwards keeps the way to the root known for as long
  /// as anything below it is; it makes no cycles, since directories cannot be linked.
  struct Link: Sendable {
    let parent: Inode
    let name: [UInt8]

    func isSame(_ other: Link) -> Bool { parent === other.parent && name == other.name }
  }

  struct State {
    /// The name used to reach the object; nil for the root and after the last known name went.
    var link: Link?
    /// Further names, which only hard links have.
    var otherLinks: [Link]?
    /// What is open of it; nil when nothing is.
    var file: OpenFile?
    /// What leads to it once the last name went, for those the kernel opens by itself: FIFOs, and with
    /// O_PATH anything.
    var remains: Location?
    /// Opens for writing, and changes that are under way.
    var changes: Int32 = 0
    var stage = ConversionStage.none
  }

  /// Generation in the upper half, slot + 1 in the lower: never handed out twice.
  let nodeid: UInt64
  let identity: BackingIdentity
  let mode: InodeMode
  /// The inode number shown, where it is not the backing inode's: that of a symbolic link before a rename
  /// made it anew.
  let shownNumber: UInt64?
  let state: Mutex<State>
  /// For directories, once their record was read: whether other programs may change the entries.
  let visibility = Atomic<Visibility>(.unknown)

  /// For directories that only this mount changes: whether they have an access list for new entries.
  let defaultList = Atomic<Presence>(.unknown)
  /// For containers: whether they have attributes or an access list, as few do.
  let attributes = Atomic<Presence>(.unknown)

  enum Presence: UInt8, AtomicRepresentable {
    case unknown
    case absent
    case present
  }

  enum Visibility: UInt8, AtomicRepresentable {
    case unknown
    /// Names or content are sealed: only this mount changes it.
    case sealed
    /// Plain names and plain content: the backing directory is the data, whoever writes it.
    case open
  }

  init(
    nodeid: UInt64, identity: BackingIdentity, mode: InodeMode, link: Link?,
    shownNumber: UInt64? = nil
  ) {
    self.nodeid = nodeid
    self.identity = identity
    self.mode = mode
    self.shownNumber = shownNumber
    state = Mutex(State(link: link))
  }

  var link: Link? { state.withLock { $0.link } }

  /// Every name known, the preferred one first.
  var links: [Link] {
    state.withLock { state in
      guard let link = state.link else { return [] }
      return [link] + (state.otherLinks ?? [])
    }
  }

  /// What is open of this inode, if anything.
  var file: OpenFile? { state.withLock { $0.file } }

  /// Where it is without a name.
  var remains: Location? { state.withLock { $0.remains } }

  /// Keeps it within reach when its last name goes, or no longer.
  func keep(_ remains: Location?) { state.withLock { $0.remains = remains } }

  /// Whether `link` is known to lead here.
  func isKnown(as link: Link) -> Bool {
    state.withLock { state in
      state.link?.isSame(link) == true
        || state.otherLinks?.contains { $0.isSame(link) } == true
    }
  }

  /// Notes that `link` leads here.
  func add(_ link: Link) {
    state.withLock { state in
      guard let first = state.link else {
        state.link = link
        return
      }
      if first.isSame(link) { return }
      if let others = state.otherLinks, others.contains(where: { $0.isSame(link) }) { return }
      state.otherLinks = (state.otherLinks ?? []) + [link]
    }
  }

  /// Forgets that `link` leads here; unknown links are ignored.
  func remove(_ link: Link) {
    state.withLock { state in
      if let first = state.link, first.isSame(link) {
        state.link = state.otherLinks?.popLast()
      } else {
        state.otherLinks?.removeAll { $0.isSame(link) }
      }
      if state.otherLinks?.isEmpty == true { state.otherLinks = nil }
    }
  }
}
