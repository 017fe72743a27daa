import Primitives

extension Vault {
  /// The attributes of an open plain file, which has perhaps no name any more.
  ///
  /// - Parameter descriptor: Its backing file.
  /// - Returns: Its attributes, which are stored as they are.
  public func attributes(ofPlainFile descriptor: SharedFD) -> Attributes {
    Attributes(context: context, descriptor: descriptor, scheme: .plain)
  }
}
