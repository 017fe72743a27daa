import Primitives

/// What tells one backing object from every other, also after its inode number was used again.
struct BackingIdentity: Hashable, Sendable {
  let device: UInt64
  let inode: UInt64
  /// Birth time in nanoseconds since 1970, wrapped to 64 bits; 0 where the filesystem keeps none.
  let birth: Int64

  init(device: UInt64, inode: UInt64, birth: Int64) {
    self.device = device
    self.inode = inode
    self.birth = birth
  }

  init(_ status: FileStatus) {
    let birth = status.fields.contains(.btime) ? status.btime : TimeSpec(seconds: 0, nanoseconds: 0)
    self.init(
      device: status.device, inode: status.inode,
      birth: birth.seconds &* 1_000_000_000 &+ Int64(birth.nanoseconds))
  }

  /// A well-mixed hash, cheaper than SipHash: nobody gains from colliding inode numbers on purpose
  /// but the owner of the backing filesystem, who can fill it just as well.
  var mixed: UInt64 {
    var value = inode ^ (UInt64(bitPattern: birth) &* 0x9E37_79B9_7F4A_7C15) ^ (device << 48)
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
