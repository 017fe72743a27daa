import Primitives
import TestSupport
import Testing

@Suite struct ByteCodecTests {
  @Test func fieldsAreLittleEndianAndReturn() throws {
    var writer = ByteWriter(capacity: 64)
    writer.write(UInt8(0x01))
    writer.write(UInt16(0x0203))
    writer.writeUInt24(0x04_0506)
    writer.write(UInt32(0x0708_090A))
    writer.writeUInt48(0x0B0C_0D0E_0F10)
    writer.write(UInt64(0x1112_1314_1516_1718))
    writer.write(Int64(-2))
    writer.write([0xAA, 0xBB])
    writer.writeZeros(3)
    let expected = hex(
      """
      01 0302 060504 0a090807 100f0e0d0c0b 1817161514131211 feffffffffffffff aabb 000000
      """)
    #expect(writer.bytes == expected)
    try expected.withByteReader { reader throws(CodecError) in
      #expect(try reader.readUInt8() == 1)
      #expect(try reader.readUInt16() == 0x0203)
      #expect(try reader.readUInt24() == 0x04_0506)
      #expect(try reader.readUInt32() == 0x0708_090A)
      #expect(try reader.readUInt48() == 0x0B0C_0D0E_0F10)
      #expect(try reader.readUInt64() == 0x1112_1314_1516_1718)
      #expect(try reader.readInt64() == -2)
      #expect(try reader.readArray(2) == [0xAA, 0xBB])
      #expect(reader.remaining == 3)
      #expect(throws: CodecError.trailing) { try reader.finish() }
      try reader.finishZeroPadded()
      try reader.finish()
    }
  }

  @Test func fixedMemoryGetsTheSameBytes() throws {
    var memory = [UInt8](repeating: 0xFF, count: 30)
    try memory.withUnsafeMutableBytes { bytes in
      var writer = BufferWriter(bytes)
      try writer.write(UInt16(0x0203))
      try writer.writeUInt24(0x04_0506)
      try writer.writeUInt48(0x0B0C_0D0E_0F10)
      try writer.write([0xAA])
      try ([0xBB, 0xCC] as [UInt8]).withUnsafeBytes { try writer.write($0) }
      try writer.reserve(2).copyBytes(from: [0xDD, 0xEE])
      writer.fillWithZeros()
      #expect(writer.remaining == 0)
      #expect(throws: CodecError.noSpace) { try writer.write(UInt8(0)) }
    }
    let written = hex("0302 060504 100f0e0d0c0b aa bbcc ddee")
    #expect(memory == written + [UInt8](repeating: 0, count: 30 - written.count))
  }

  @Test func nothingIsReadBeyondTheEnd() {
    for count in 0..<8 {
      [UInt8](repeating: 1, count: count).withByteReader { reader in
        #expect(throws: CodecError.truncated) { try reader.readUInt64() }
        #expect(throws: CodecError.truncated) { try reader.read(count + 1) }
        #expect(throws: CodecError.truncated) { try reader.readArray(.max) }
        #expect(throws: CodecError.truncated) { try reader.read(-1) }
        #expect(throws: CodecError.truncated) { try reader.skip(.min) }
        #expect(throws: CodecError.truncated) { try reader.skip(.max) }
        #expect(throws: CodecError.truncated) { try reader.seek(to: count + 1) }
        #expect(throws: CodecError.truncated) { try reader.seek(to: -1) }
        if count < 6 { #expect(throws: CodecError.truncated) { try reader.readUInt48() } }
        if count < 3 { #expect(throws: CodecError.truncated) { try reader.readUInt24() } }
        #expect(reader.offset == 0, "a failed read must not move")
        #expect(throws: Never.self) { try reader.seek(to: count) }
        #expect(throws: Never.self) { try reader.finish() }
      }
    }
  }

  @Test func nothingIsWrittenBeyondTheEnd() {
    var memory = [UInt8](repeating: 0xFF, count: 8)
    memory.withUnsafeMutableBytes { bytes in
      var writer = BufferWriter(UnsafeMutableRawBufferPointer(rebasing: bytes[..<2]))
      #expect(throws: CodecError.noSpace) { try writer.write(UInt32(0)) }
      #expect(throws: CodecError.noSpace) { try writer.writeUInt24(0) }
      #expect(throws: CodecError.noSpace) { try writer.writeUInt48(0) }
      #expect(throws: CodecError.noSpace) { try writer.write([0, 0, 0] as [UInt8]) }
      #expect(throws: CodecError.noSpace) { try writer.reserve(3) }
      #expect(throws: CodecError.noSpace) { try writer.reserve(-1) }
      #expect(writer.offset == 0)
      writer.fillWithZeros()
    }
    #expect(memory == [0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])
  }

  @Test func paddingThatIsNotZeroIsRejected() {
    ([1, 0, 0, 9] as [UInt8]).withByteReader { reader -> Void in
      #expect(throws: CodecError.trailing) { try reader.finishZeroPadded() }
    }
    ([] as [UInt8]).withByteReader { reader in
      #expect(throws: Never.self) { try reader.finishZeroPadded() }
    }
  }

  @Test func randomReadsNeverLeaveTheBytes() {
    var random = SeededRandom(for: "byte reader")
    for _ in 0..<SeededRandom.rounds(500) {
      let bytes = random.bytes(Int.random(in: 0...64, using: &random))
      bytes.withByteReader { reader in
        for _ in 0..<40 {
          let count = Int.random(in: -2...70, using: &random)
          switch Int.random(in: 0..<5, using: &random) {
          case 0: _ = try? reader.readUInt16()
          case 1: _ = try? reader.readUInt48()
          case 2: _ = try? reader.read(count)
          case 3: try? reader.seek(to: count)
          default: try? reader.skip(count)
          }
          #expect((0...bytes.count).contains(reader.offset))
        }
      }
    }
  }
}
