import Synchronization

/// Idle objects kept for the next user, such as keyed contexts that serve one call at a time.
///
/// Inlinable, since unspecialised generic code looks metadata up at every call.
public final class Pool<Element: AnyObject & Sendable>: Sendable {
  @usableFromInline let idle = Mutex<[Element]>([])
  @usableFromInline let capacity: Int

  /// Creates an empty pool.
  ///
  /// - Parameter capacity: How many idle objects are kept; more are dropped on return.
  @inlinable
  public init(capacity: Int = 16) {
    self.capacity = capacity
  }

  /// Takes an idle object out, if there is one.
  @inlinable
  public func take() -> Element? {
    idle.withLock { $0.popLast() }
  }

  /// Gives an object back.
  @inlinable
  public func give(_ element: Element) {
    idle.withLock { if $0.count < capacity { $0.append(element) } }
  }
}
