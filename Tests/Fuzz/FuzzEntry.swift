import Glibc

/// The decoder that this process was started for.
private let decoder: DecoderInput = {
  guard let name = getenv("SCRIM_FUZZ"), let input = DecoderInput(rawValue: String(cString: name))
  else {
    perror("SCRIM_FUZZ names no decoder")
    exit(2)
  }
  return input
}()

/// What libFuzzer calls with each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = Array(UnsafeBufferPointer(start: start, count: count))
  precondition(decoder.feed(bytes), "what was accepted is not what the encoder makes")
  return 0
}

/// Writes the seeds of every decoder into folders of their names, before the first input.
@_cdecl("LLVMFuzzerInitialize")
public func fuzzInitialize(
  _ count: UnsafeMutablePointer<CInt>?,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>?
) -> CInt {
  guard let folder = getenv("SCRIM_FUZZ_CORPUS") else { return 0 }
  for (index, seed) in decoder.seeds.enumerated() {
    guard let file = fopen("\(String(cString: folder))/seed-\(index)", "w") else { continue }
    fwrite(seed, 1, seed.count, file)
    fclose(file)
  }
  return 0
}

/// libFuzzer's loop.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
  _ count: UnsafeMutablePointer<CInt>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
  _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// The package manager makes this the program's `main`.
@_cdecl("scrim_fuzz_main")
public func fuzzMain(
  _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
  var count = count
  var arguments = arguments
  return runDriver(&count, &arguments, fuzzOneInput)
}
