import ArgumentParser
import Container
import Vault

extension ContentPolicy: ExpressibleByArgument {
  /// The policy of this name, as in `--content plain`.
  public init?(argument: String) { self.init(name: argument) }

  /// Every policy's name.
  public static var allValueStrings: [String] { allCases.map(\.name) }
  /// This policy's name.
  public var defaultValueDescription: String { name }
}

extension NamePolicy: ExpressibleByArgument {
  /// The policy of this name, as in `--names sealed`.
  public init?(argument: String) { self.init(name: argument) }

  /// Every policy's name.
  public static var allValueStrings: [String] { allCases.map(\.name) }
  /// This policy's name.
  public var defaultValueDescription: String { name }
}
