import Glibc
import SystemPackage

/// A file descriptor with one owner, closed when that goes.
public struct OwnedFD: ~Copyable, Sendable {
  /// The number; valid while the owner lives.
  public let rawValue: Int32

  /// Takes over an open descriptor.
  public init(owning rawValue: Int32) {
    self.rawValue = rawValue
  }

  deinit { _ = Glibc.close(rawValue) }

  /// Gives the descriptor up without closing it.
  public consuming func release() -> Int32 {
    let number = rawValue
    discard self
    return number
  }

  /// Closes now and says how it went; a network filesystem reports late write errors here. The
  /// descriptor is gone in any case.
  ///
  /// - Throws: What close(2) gave.
  public consuming func close() throws(Errno) {
    let number = rawValue
    discard self
    guard Glibc.close(number) == 0 else { throw Errno(rawValue: errno) }
  }
}

/// A file descriptor with several owners, closed when the last one goes.
public final class SharedFD: Sendable {
  /// The number; valid while any reference lives.
  public let rawValue: Int32

  /// Takes over a descriptor.
  public init(_ descriptor: consuming OwnedFD) {
    rawValue = descriptor.release()
  }

  /// Takes over an open descriptor.
  public init(owning rawValue: Int32) {
    self.rawValue = rawValue
  }

  deinit { _ = Glibc.close(rawValue) }
}
