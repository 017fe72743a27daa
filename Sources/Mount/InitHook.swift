import Glibc

/// What the kernel's INIT request offers (`struct fuse_init_in`).
struct InitOffer: Sendable {
  let major: UInt32
  let minor: UInt32
  let flags: UInt64

  /// Nil when `request` is not a whole INIT request.
  init?(request: UnsafeRawBufferPointer) {
    let body = Wire.requestHeaderSize
    guard let head = RequestHead(request), head.opcode == Wire.Opcode.initialize,
      request.count >= body + 16
    else { return nil }
    major = request.loadUnaligned(fromByteOffset: body, as: UInt32.self)
    minor = request.loadUnaligned(fromByteOffset: body + 4, as: UInt32.self)
    var all = UInt64(request.loadUnaligned(fromByteOffset: body + 12, as: UInt32.self))
    if all & Wire.Capability.initExtended != 0, request.count >= body + 20 {
      all |= UInt64(request.loadUnaligned(fromByteOffset: body + 16, as: UInt32.self)) << 32
    }
    flags = all
  }

  func offers(_ capability: UInt64) -> Bool { flags & capability != 0 }
}

/// What this mount asks for beyond what libfuse puts into the INIT reply.
struct InitWishes: Sendable {
  var passthrough = true
  /// Kernel gathers writes in its page cache; not together with passthrough.
  var writeback = false
  /// 1, or 2 for a backing filesystem that is stacked itself (overlayfs).
  var stackDepth: UInt32 = 1
  var overIOURing = false
  /// Kernel leaves stripping suid and sgid to us, so a write costs no GETXATTR.
  var killPrivileges = true
  var readDirPlus = false
  var maxBackground: UInt16 = 64
  var congestionThreshold: UInt16 = 48
}

/// The INIT reply, made to say what libfuse 3.14 cannot.
///
/// libfuse replies with protocol 7.31, leaves out two capabilities it was asked for (PARALLEL_DIROPS,
/// HANDLE_KILLPRIV_V2), insists on AUTO_INVAL_DATA, which makes one small write drop a file's whole
/// page cache, and knows neither passthrough nor rings. Only what the kernel offered is asked for.
enum InitReply {
  /// Rewrites `reply` (`struct fuse_init_out`) in place.
  ///
  /// - Returns: the capabilities of the reply, or nil when it is too short or an error and stays as it is.
  static func rewrite(
    _ reply: UnsafeMutableRawBufferPointer, offer: InitOffer, wishes: InitWishes
  ) -> UInt64? {
    guard reply.count >= Wire.initReplySize, offer.major == 7 else { return nil }
    var flags = UInt64(reply.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
    if flags & Wire.Capability.initExtended != 0 {
      flags |= UInt64(reply.loadUnaligned(fromByteOffset: 32, as: UInt32.self)) << 32
    }
    flags = adjusted(flags, offer: offer, wishes: wishes)
    let background = max(wishes.maxBackground, 1)
    reply.storeBytes(of: min(offer.minor, Wire.newestMinor), toByteOffset: 4, as: UInt32.self)
    reply.storeBytes(of: UInt32(truncatingIfNeeded: flags), toByteOffset: 12, as: UInt32.self)
    reply.storeBytes(of: background, toByteOffset: 16, as: UInt16.self)
    reply.storeBytes(
      of: min(wishes.congestionThreshold, background), toByteOffset: 18, as: UInt16.self)
    reply.storeBytes(of: UInt32(Wire.maximumPayload), toByteOffset: 20, as: UInt32.self)
    reply.storeBytes(
      of: UInt16(Wire.maximumPayload / Int(getpagesize())), toByteOffset: 28, as: UInt16.self)
    reply.storeBytes(of: UInt32(truncatingIfNeeded: flags >> 32), toByteOffset: 32, as: UInt32.self)
    let depth = flags & Wire.Capability.passthrough != 0 ? wishes.stackDepth : 0
    reply.storeBytes(of: depth, toByteOffset: 36, as: UInt32.self)
    return flags
  }

  private static func adjusted(
    _ replied: UInt64, offer: InitOffer, wishes: InitWishes
  ) -> UInt64 {
    typealias Bit = Wire.Capability
    var wanted =
      Bit.asyncRead | Bit.parallelDirectoryOperations | Bit.maxPages | Bit.cacheSymlinks
      | Bit.explicitInvalidateData | Bit.initExtended | Bit.directIOAllowMap
    // ENOSYS to OPEN would switch OPEN off for the whole mount, and passthrough with it.
    var unwanted = Bit.autoInvalidateData | Bit.noOpen
    if wishes.readDirPlus { wanted |= Bit.readDirPlus | Bit.readDirPlusAuto }
    if wishes.killPrivileges { wanted |= Bit.killPrivilegesV2 }
    if wishes.overIOURing { wanted |= Bit.overIOURing }
    if wishes.passthrough {
      wanted |= Bit.passthrough
      // The kernel silently drops passthrough when both are asked for (process_init_reply).
      unwanted |= Bit.writebackCache
    } else if wishes.writeback {
      wanted |= Bit.writebackCache
    }
    return (replied | (wanted & offer.flags)) & ~unwanted
  }
}
