import ArgumentParser
import Container
import Primitives
import SystemPackage

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure how fast this machine seals, compresses and derives keys.",
    discussion: """
      Nothing is read or written but memory. Mounts are slower than the rates of whole containers, by what it costs \
      to hand each request to the kernel and back.
      """)

  @Flag(help: "Print JSON, whose form docs/cli.md describes.")
  var json = false

  @Option(help: "How long to measure each rate, in milliseconds.")
  var milliseconds = 300

  func validate() throws {
    guard (1...60_000).contains(milliseconds) else {
      throw ValidationError("--milliseconds takes 1 to 60000")
    }
  }

  func run() throws {
    let sections: [BenchSection]
    do {
      sections = try Patience.during("measuring") {
        try Bench(duration: .milliseconds(milliseconds)).sections()
      }
    } catch let error as CryptoError {
      throw Failure(.system, "libcrypto: \(error)")
    }
    if json { return try Output.json(sections) }
    let width = sections.flatMap(\.figures).map(\.name.count).max() ?? 0
    for (index, section) in sections.enumerated() {
      try Output.line((index > 0 ? "\n" : "") + section.title)
      for figure in section.figures {
        try Output.line("  " + figure.name.padded(to: width + 2) + figure.text)
      }
    }
  }
}

/// Figures that belong together.
struct BenchSection: Encodable {
  let title: String
  var figures: [BenchFigure]
}

/// What was measured of one thing: a rate or a time.
struct BenchFigure: Encodable {
  let name: String
  var mibPerSecond: Double?
  var seconds: Double?
  /// What to know of it.
  var note: String?

  var text: String {
    var text = ""
    if let mibPerSecond { text = "\(Int(mibPerSecond.rounded())) MiB/s" }
    if let seconds { text = "\(Int((seconds * 1000).rounded())) ms" }
    guard let note else { return text }
    return text.padded(to: 14) + note
  }
}

/// Measures, one thing after another.
struct Bench {
  let duration: Duration

  /// Everything, in the order of the path from the passphrase to the backing file.
  func sections() throws -> [BenchSection] {
    [try derivations(), try ciphers(), compression(), try containers()]
  }

  private func rate(
    _ name: String, bytes: Int, note: String? = nil, _ body: () throws -> Void
  ) rethrows -> BenchFigure {
    try rate(name, bytes: bytes, note: note, preparing: {}, body)
  }

  /// Calls `body`, which goes through so many bytes, until the time is over; what has to be prepared for each call does
  /// not count.
  private func rate(
    _ name: String, bytes: Int, note: String? = nil, preparing: () throws -> Void,
    _ body: () throws -> Void
  ) rethrows -> BenchFigure {
    try preparing()
    try body()
    let clock = ContinuousClock()
    var done = 0
    var passed = Duration.zero
    repeat {
      try preparing()
      passed += try clock.measure(body)
      done += bytes
    } while passed < duration
    return BenchFigure(
      name: name, mibPerSecond: Double(done) / passed.inSeconds / 1_048_576, note: note)
  }

  private func derivations() throws -> BenchSection {
    let costs: [(String, UInt8)] = [("low", 12), ("standard", 16), ("high", 18)]
    let secret = SecretBytes(copying: Array("correct horse battery staple".utf8))
    let figures = try costs.map { name, logN in
      let time = try ContinuousClock().measure {
        _ = try KeyDerivation.scrypt(
          passphrase: secret, salt: [UInt8](repeating: 1, count: 32), logN: logN, r: 8, p: 1)
      }
      return BenchFigure(
        name: name, seconds: time.inSeconds, note: "scrypt N=2^\(logN), once for each mount")
    }
    return BenchSection(title: "Keys from passphrases, by --kdf-cost", figures: figures)
  }

  private func ciphers() throws -> BenchSection {
    let count = 4096
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 3 * count + 64, alignment: 4096)
    defer { memory.deallocate() }
    memory.initializeMemory(as: UInt8.self, repeating: 1, count: 3 * count + 64)
    let plain = UnsafeRawBufferPointer(start: memory, count: count)
    let sealed = memory + count
    let opened = memory + 2 * count
    let nonce = UnsafeRawPointer(memory + 3 * count)
    let tag = memory + 3 * count + 16
    let none = UnsafeRawBufferPointer(start: nil, count: 0)
    var figures: [BenchFigure] = []
    for suite in CipherSuite.allCases {
      let context = try AEAD(suite: suite, key: SecretBytes(copying: [UInt8](0..<32)))
      let name = suite == .aes256GCM ? "AES-256-GCM" : "ChaCha20-Poly1305"
      let chosen = suite == .preferred ? "what new vaults use here" : nil
      figures.append(
        rate("\(name), sealing", bytes: count << 6, note: chosen) {
          for _ in 0..<64 {
            context.seal(nonce: nonce, associatedData: none, plain: plain, into: sealed, tag: tag)
          }
        })
      figures.append(
        try rate("\(name), opening", bytes: count << 6, note: chosen) {
          for _ in 0..<64 {
            try context.open(
              nonce: nonce, associatedData: none,
              cipher: UnsafeRawBufferPointer(start: sealed, count: count), into: opened, tag: tag)
          }
        })
    }
    return BenchSection(title: "Blocks of 4 KiB on one processor", figures: figures)
  }

  private func compression() -> BenchSection {
    let plain = Bench.text(128 << 10)
    let packed = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
    defer { packed.deallocate() }
    let unpacked = UnsafeMutableRawBufferPointer.allocate(byteCount: plain.count, alignment: 64)
    defer { unpacked.deallocate() }
    let compressor = Compressor()
    var length = 0
    let packing = plain.withUnsafeBytes { source in
      rate("compressing", bytes: plain.count) {
        length = compressor.compress(source, into: packed, level: 3) ?? 0
      }
    }
    let unpacking = rate("decompressing", bytes: plain.count) {
      // What it just made decompresses.
      _ = try? compressor.decompress(
        UnsafeRawBufferPointer(rebasing: packed[..<length]), into: unpacked)
    }
    return BenchSection(
      title: "zstd level 3, blocks of 128 KiB of text on one processor",
      figures: [packing, unpacking])
  }

  /// The whole way of a request but the kernel's part: blocks, tree, pages of a file in memory.
  private func containers() throws -> BenchSection {
    let size = 32 << 20
    let request = 1 << 20
    let text = Bench.text(request)
    let target = UnsafeMutableRawBufferPointer.allocate(byteCount: request, alignment: 4096)
    defer { target.deallocate() }
    let keys = ContainerKeys(
      contentRoot: SecretBytes(copying: [UInt8](0..<32)), suite: .preferred)
    var figures: [BenchFigure] = []
    let offsets = stride(from: 0, to: UInt64(size), by: request)
    for policy in ContentPolicy.allCases where policy != .plain {
      let workspace = Workspace()
      func makeFile() throws -> ContainerFile {
        try ContainerFile.create(
          store: FileBlockStore(try memoryFile()), keys: keys,
          parameters: ContainerParameters(policy: policy, session: 1, bindings: []),
          workspace: workspace)
      }
      // A new one each time: what is written first needs new pages.
      var file = try makeFile()
      figures.append(
        try rate("\(policy.name), writing", bytes: size, preparing: { file = try makeFile() }) {
          for offset in offsets {
            try text.withUnsafeBytes { try file.write(at: offset, from: $0) }
          }
          try file.commit()
        })
      figures.append(
        try rate("\(policy.name), reading", bytes: size) {
          for offset in offsets { _ = try file.read(at: offset, into: target) }
        })
    }
    return BenchSection(
      title: "New containers of 32 MiB in memory, requests of 1 MiB, all processors",
      figures: figures)
  }

  /// A file without a name, in memory if possible.
  private func memoryFile() throws -> SharedFD {
    do {
      return SharedFD(
        try Sys.openat(
          Sys.currentDirectory, Array("/dev/shm".utf8), [.readWrite, .temporaryFile], mode: 0o600))
    } catch {
      return SharedFD(
        try Sys.openat(
          Sys.currentDirectory, Array("/tmp".utf8), [.readWrite, .temporaryFile], mode: 0o600))
    }
  }

  /// Words without end, always the same.
  static func text(_ count: Int) -> [UInt8] {
    let words = "a scrim is stage cloth that lets light through or does not"
      .split(separator: " ").map { Array($0.utf8) }
    var state: UInt64 = 1
    var text: [UInt8] = []
    text.reserveCapacity(count + 16)
    while text.count < count {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      text += words[Int(state >> 33) % words.count]
      text += Array(" \(String(state >> 48, radix: 36))\n".utf8)
    }
    text.removeLast(text.count - count)
    return text
  }
}

extension Duration {
  /// As a number of seconds.
  fileprivate var inSeconds: Double {
    Double(components.seconds) + Double(components.attoseconds) * 1e-18
  }
}
