import Glibc

/// Numbers of the FUSE wire protocol (linux/fuse.h, protocol 7.42) that libfuse keeps to itself or,
/// on the oldest release we build with, does not know. All fields are in host byte order.
enum Wire {
  /// `struct fuse_in_header`: len, opcode, unique, nodeid, uid, gid, pid, padding.
  static let requestHeaderSize = 40
  /// `struct fuse_out_header`: len, error, unique.
  static let replyHeaderSize = 16
  /// `struct fuse_init_out` since protocol 7.23.
  static let initReplySize = 64
  /// `struct fuse_uring_req_header`: in/out header, operation header, entry header.
  static let ringHeaderSize = 288
  static let ringOperationOffset = 128
  static let ringEntryOffset = 256
  /// The largest operation header: what lies between the two offsets above.
  static let ringOperationSize = 128
  /// The newest protocol minor this code was written against; a newer kernel speaks this one.
  static let newestMinor: UInt32 = 42
  /// Largest READ reply and WRITE payload in bytes: libfuse 3.14 has room for no more.
  static let maximumPayload = 1 << 20

  enum Opcode {
    static let forget: UInt32 = 2
    static let getattr: UInt32 = 3
    static let setattr: UInt32 = 4
    static let open: UInt32 = 14
    static let read: UInt32 = 15
    static let write: UInt32 = 16
    static let release: UInt32 = 18
    static let fsync: UInt32 = 20
    static let flush: UInt32 = 25
    static let initialize: UInt32 = 26
    static let readDirectory: UInt32 = 28
    static let releaseDirectory: UInt32 = 29
    static let fsyncDirectory: UInt32 = 30
    static let create: UInt32 = 35
    static let batchForget: UInt32 = 42
    static let allocate: UInt32 = 43
    static let readDirectoryPlus: UInt32 = 44
    static let seek: UInt32 = 46
    static let copyRange: UInt32 = 47
    static let temporaryFile: UInt32 = 51
    static let statx: UInt32 = 52

    /// Those that are made of an open file or directory.
    static let onHandles: Set<UInt32> = [
      read, write, release, fsync, flush, readDirectory, releaseDirectory, fsyncDirectory, allocate,
      readDirectoryPlus, seek, copyRange,
    ]
  }

  /// FUSE_INIT flags, low word and `flags2` as one.
  enum Capability {
    static let asyncRead: UInt64 = 1 << 0
    static let autoInvalidateData: UInt64 = 1 << 12
    static let readDirPlus: UInt64 = 1 << 13
    static let readDirPlusAuto: UInt64 = 1 << 14
    static let writebackCache: UInt64 = 1 << 16
    static let noOpen: UInt64 = 1 << 17
    static let parallelDirectoryOperations: UInt64 = 1 << 18
    static let maxPages: UInt64 = 1 << 22
    static let cacheSymlinks: UInt64 = 1 << 23
    static let explicitInvalidateData: UInt64 = 1 << 25
    static let killPrivilegesV2: UInt64 = 1 << 28
    static let initExtended: UInt64 = 1 << 30
    static let directIOAllowMap: UInt64 = 1 << 36
    static let passthrough: UInt64 = 1 << 37
    static let overIOURing: UInt64 = 1 << 41
  }

  /// `open_flags` of an OPEN or CREATE reply.
  enum OpenFlag {
    static let passthrough: UInt32 = 1 << 7
  }

  /// Bits by which the kernel, once HANDLE_KILLPRIV_V2 is agreed, asks for suid and sgid to be stripped.
  enum KillPrivileges {
    static let write: UInt32 = 1 << 2
    static let setattr: UInt32 = 1 << 11
    static let open: UInt32 = 1 << 0
  }
}

/// The fixed head of one request, copied out of the bytes the kernel wrote.
struct RequestHead {
  let length: UInt32
  let opcode: UInt32
  let unique: UInt64
  let nodeID: UInt64

  /// Nil when there are fewer bytes than a header.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= Wire.requestHeaderSize else { return nil }
    length = bytes.loadUnaligned(fromByteOffset: 0, as: UInt32.self)
    opcode = bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
    unique = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    nodeID = bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
  }
}
