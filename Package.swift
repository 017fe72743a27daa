// swift-tools-version: 6.2
import PackageDescription

/// Rules for every Swift target: warnings are errors, imports say who sees them.
let strict: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("MemberImportVisibility"),
]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")

let package = Package(
  name: "scrim",
  products: [
    .executable(name: "scrim", targets: ["scrim"]),
    .executable(name: "scrim-broker", targets: ["scrim-broker"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
  ],
  targets: [
    .systemLibrary(name: "CFuse", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),
    .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .target(name: "CLinux"),
    .target(
      name: "Primitives", dependencies: ["CCrypto", "CZstd", "CLinux", system],
      swiftSettings: strict),
    .target(
      name: "Container", dependencies: ["Primitives", system], swiftSettings: strict),
    .target(
      name: "Vault", dependencies: ["Container", "Primitives", system, logging],
      swiftSettings: strict),
    .target(
      name: "Migration", dependencies: ["Vault", "Container", "Primitives", system],
      swiftSettings: strict),
    .target(name: "BrokerProtocol", dependencies: ["CLinux", system], swiftSettings: strict),
    .executableTarget(
      name: "scrim-broker", dependencies: ["BrokerProtocol", "CLinux", system],
      swiftSettings: strict),
    .target(
      name: "Mount",
      dependencies: [
        "Migration", "Vault", "Container", "Primitives", "BrokerProtocol", "CFuse", "CLinux",
        system,
        logging,
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "scrim",
      dependencies: [
        "Mount", "Migration", "Vault", "Container", "Primitives", argumentParser, logging, system,
      ],
      swiftSettings: strict),
    .target(name: "SystemCallSeam", path: "Tests/SystemCallSeam"),
    .target(
      name: "TestSupport", dependencies: ["Container", "Primitives", "SystemCallSeam", system],
      path: "Tests/TestSupport", swiftSettings: strict),
    .testTarget(
      name: "PrimitivesTests", dependencies: ["Primitives", "CLinux", "TestSupport", system],
      swiftSettings: strict),
    .target(name: "AllocationCounter", path: "Tests/AllocationCounter"),
    .testTarget(
      name: "ContainerTests",
      dependencies: ["Container", "Primitives", "TestSupport", "AllocationCounter", system],
      swiftSettings: strict),
    .testTarget(
      name: "VaultTests",
      dependencies: ["Vault", "Container", "Primitives", "TestSupport", system],
      swiftSettings: strict),
    .executableTarget(
      name: "MountTestServer", dependencies: ["Mount", "Primitives", "CFuse", "CLinux", logging],
      path: "Tests/MountTestServer", swiftSettings: strict),
    .testTarget(
      name: "MountTests",
      dependencies: [
        "Mount", "MountTestServer", "BrokerProtocol", "scrim-broker", "CLinux", "Vault",
        "Container", "Primitives", "TestSupport", system,
        logging,
      ],
      swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)

// libFuzzer brings its own `main`, so the fuzz targets are built only when asked for: Tests/Fuzz/run.
if Context.environment["SCRIM_FUZZ_TARGET"] != nil {
  package.targets.append(
    .executableTarget(
      name: "scrim-fuzz",
      dependencies: ["Vault", "Container", "Primitives", "TestSupport", system],
      path: "Tests/Fuzz", exclude: ["run"], swiftSettings: strict))
}
