import CFuse
import CLinux
import Glibc
import Primitives
import SystemPackage

/// Callbacks of open files and directories.
extension Operations {
  static func addFiles(to table: inout fuse_lowlevel_ops) {
    table.open = { request, nodeid, info in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        guard let info else { throw MountFailure.invalid }
        let inode = try fileSystem.inode(UInt64(nodeid))
        let opened = try fileSystem.open(
          inode, flags: info.pointee.flags, stripping: .withoutPrivileges(request))
        if opened.backingID != nil, info.pointee.flags & O_ACCMODE != O_RDONLY {
          // From now on the kernel has to ask for attributes: see `timeout`. Dropping those it has waits for nothing.
          try? Worker.current?.session.invalidateInode(UInt64(nodeid), offset: -1)
        }
        let result = Reply.open(
          request, handle: 0, flags: opened.flags, backingID: opened.backingID)
        if result == -ENOENT {
          fileSystem.close(inode, opened.file, flags: info.pointee.flags)
        }
      }
    }
    table.flush = { request, nodeid, _ in
      Dispatch.perform(request, nodeid) { fileSystem, _ in try fileSystem.flush(UInt64(nodeid)) }
    }
    table.release = { request, nodeid, info in
      Dispatch.perform(request, nodeid) { fileSystem, _ in
        guard let info else { throw MountFailure.invalid }
        try fileSystem.close(UInt64(nodeid), flags: info.pointee.flags)
      }
    }
    table.fsync = { request, nodeid, dataOnly, _ in
      Dispatch.perform(request, nodeid) { fileSystem, _ in
        try fileSystem.fsync(UInt64(nodeid), dataOnly: dataOnly != 0)
      }
    }
  }

  static func addData(to table: inout fuse_lowlevel_ops) {
    table.read = { request, nodeid, size, offset, _ in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        guard let offset = UInt64(exactly: offset) else { throw MountFailure.invalid }
        guard let buffer = Reply.buffer() else { throw MountFailure.outOfMemory }
        let memory = UnsafeMutableRawBufferPointer(
          start: buffer.base, count: min(size, buffer.capacity))
        let count = try fileSystem.read(UInt64(nodeid), at: offset, into: memory)
        Reply.data(request, buffer, count: count)
      }
    }
    table.write = { request, nodeid, data, size, offset, info in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        guard let offset = UInt64(exactly: offset), let info else { throw MountFailure.invalid }
        // SAFETY: libfuse lends `size` bytes until the reply.
        try fileSystem.write(
          UInt64(nodeid), at: offset, from: UnsafeRawBufferPointer(start: data, count: size),
          appends: info.pointee.flags & O_APPEND != 0 && info.pointee.writepage == 0,
          isGathered: info.pointee.writepage != 0,
          stripping: .withoutPrivileges(request))
        fuse_reply_write(request, size)
      }
    }
  }

  static func addRanges(to table: inout fuse_lowlevel_ops) {
    table.fallocate = { request, nodeid, mode, offset, length, _ in
      Dispatch.perform(request, nodeid) { fileSystem, _ in
        try fileSystem.allocate(
          UInt64(nodeid), mode: Sys.AllocateMode(rawValue: mode), at: Int64(offset),
          count: Int64(length))
      }
    }
    table.lseek = { request, nodeid, offset, whence, _ in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        let found = try fileSystem.seek(UInt64(nodeid), from: Int64(offset), whence: whence)
        fuse_reply_lseek(request, off_t(found))
      }
    }
    table.copy_file_range = { request, source, from, _, destination, to, _, length, flags in
      Dispatch.serve(request, destination) { fileSystem, request in
        guard flags == 0, let from = UInt64(exactly: from), let to = UInt64(exactly: to) else {
          throw MountFailure.invalid
        }
        let copied = try fileSystem.copy(
          UInt64(source), at: from, to: UInt64(destination), at: to, count: length)
        fuse_reply_write(request, copied)
      }
    }
  }

  static func addDirectories(to table: inout fuse_lowlevel_ops) {
    table.opendir = { request, nodeid, _ in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        let (handle, flags) = try fileSystem.openDirectory(UInt64(nodeid))
        if Reply.open(request, handle: handle, flags: flags) == -ENOENT {
          fileSystem.handles.remove(handle)
        }
      }
    }
    table.readdir = { request, nodeid, size, cookie, info in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        guard let info, let buffer = Reply.buffer() else { throw MountFailure.outOfMemory }
        let filled = try fileSystem.list(
          request, info.pointee.fh, from: Int64(cookie), into: buffer.characters(size))
        Reply.data(request, buffer, count: filled)
      }
    }
    table.readdirplus = { request, nodeid, size, cookie, info in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        guard let info, let buffer = Reply.buffer() else { throw MountFailure.outOfMemory }
        var known: [UInt64] = []
        do {
          let filled = try fileSystem.listWithAttributes(
            request, info.pointee.fh, from: Int64(cookie), into: buffer.characters(size),
            known: &known)
          // Interrupted: the kernel has not seen these lookups.
          guard Reply.data(request, buffer, count: filled) == -ENOENT else { return }
        } catch {
          for nodeid in known { fileSystem.table.forget(nodeid, count: 1) }
          throw error
        }
        for nodeid in known { fileSystem.table.forget(nodeid, count: 1) }
      }
    }
    table.releasedir = { request, nodeid, info in
      Dispatch.perform(request, nodeid) { fileSystem, _ in
        if let info { fileSystem.handles.remove(info.pointee.fh) }
      }
    }
    table.fsyncdir = { request, nodeid, _, _ in
      Dispatch.perform(request, nodeid) { fileSystem, _ in
        try fileSystem.syncDirectory(UInt64(nodeid))
      }
    }
  }

  static func addExtendedAttributes(to table: inout fuse_lowlevel_ops) {
    table.getxattr = { request, nodeid, name, size in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        let value = try fileSystem.attribute(UInt64(nodeid), try Dispatch.name(name))
        try Dispatch.reply(request, value, room: size)
      }
    }
    table.listxattr = { request, nodeid, size in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        let names = try fileSystem.attributeNames(UInt64(nodeid), Caller(request))
        try Dispatch.reply(request, names, room: size)
      }
    }
    table.setxattr = { request, nodeid, name, value, size, flags in
      Dispatch.perform(request, nodeid) { fileSystem, request in
        guard let mode = Sys.AttributeMode(rawValue: flags) else { throw MountFailure.invalid }
        // SAFETY: libfuse lends `size` bytes until the reply.
        let bytes = [UInt8](UnsafeRawBufferPointer(start: value, count: size))
        let name = try Dispatch.name(name)
        defer { Dispatch.forgetMode(of: UInt64(nodeid), after: name) }
        try fileSystem.setAttribute(
          UInt64(nodeid), name, bytes, mode: mode, by: Writer(request))
      }
    }
    table.removexattr = { request, nodeid, name in
      Dispatch.perform(request, nodeid) { fileSystem, _ in
        let name = try Dispatch.name(name)
        defer { Dispatch.forgetMode(of: UInt64(nodeid), after: name) }
        try fileSystem.removeAttribute(UInt64(nodeid), name)
      }
    }
  }
}

extension ReplyBuffer {
  /// Its first bytes, at most as many as the kernel asked for.
  func characters(_ size: Int) -> UnsafeMutableBufferPointer<CChar> {
    let count = min(size, capacity)
    // SAFETY: the buffer holds `capacity` bytes; nothing else is bound to them.
    return UnsafeMutableBufferPointer(
      start: base.bindMemory(to: CChar.self, capacity: count), count: count)
  }
}

extension Dispatch {
  /// An access list changes the mode, which the kernel expects only where it enforces lists itself.
  static func forgetMode(of nodeid: UInt64, after name: [UInt8]) {
    guard name == FileSystem.accessList else { return }
    try? Worker.current?.session.invalidateInode(nodeid, offset: -1)
  }

  /// Answers with an attribute, or with its size if `room` is 0.
  static func reply(_ request: fuse_req_t, _ value: [UInt8], room: Int) throws {
    guard room > 0 else {
      fuse_reply_xattr(request, value.count)
      return
    }
    guard value.count <= room else { throw MountFailure.tooSmall }
    value.withUnsafeBytes { bytes in
      let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
      _ = fuse_reply_buf(request, start, bytes.count)
    }
  }
}
