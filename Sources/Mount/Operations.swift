import CFuse
import CLinux
import Glibc
import Primitives
import SystemPackage

/// The C callbacks of libfuse's low-level interface: each takes its arguments apart, calls the file
/// system and answers. Absent on purpose, so that the kernel does them itself or says no: locks (local),
/// `bmap`, `poll`.
enum Operations {
  /// - Parameter leavingPermissions: the kernel checks permissions, access lists among them; else nothing is refused but
  ///   what root is refused.
  /// - Returns: The callbacks.
  static func table(leavingPermissions: Bool) -> fuse_lowlevel_ops {
    var table = fuse_lowlevel_ops()
    addSetUp(to: &table, leavingPermissions: leavingPermissions)
    addRefusals(to: &table)
    addNames(to: &table)
    addAttributes(to: &table)
    addCreation(to: &table)
    addRemoval(to: &table)
    addFiles(to: &table)
    addData(to: &table)
    addRanges(to: &table)
    addDirectories(to: &table)
    addExtendedAttributes(to: &table)
    return table
  }

  /// A default list takes the place of the umask, so the umask is always applied here.
  private static func addSetUp(to table: inout fuse_lowlevel_ops, leavingPermissions: Bool) {
    guard leavingPermissions else {
      table.`init` = { _, connection in Operations.want(FUSE_CAP_DONT_MASK, of: connection) }
      table.access = { request, nodeid, mask in
        Dispatch.perform(request, nodeid) { fileSystem, _ in
          try fileSystem.checkAccess(UInt64(nodeid), mask)
        }
      }
      return
    }
    // The kernel enforces access lists, which lie on the backing files as they are.
    table.`init` = { _, connection in
      Operations.want(FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK, of: connection)
    }
  }

  private static func want(
    _ capabilities: Int32, of connection: UnsafeMutablePointer<fuse_conn_info>?
  ) {
    guard let connection else { return }
    // SAFETY: libfuse lends the connection for the length of the call.
    connection.pointee.want |= UInt32(capabilities) & connection.pointee.capable
  }

  private static func addNames(to table: inout fuse_lowlevel_ops) {
    table.lookup = { request, parent, name in
      Dispatch.serve(request, parent, name: name) { fileSystem, request in
        let entry = try fileSystem.lookup(UInt64(parent), try Dispatch.name(name))
        Dispatch.reply(fileSystem, request, entry)
      }
    }
    table.forget = { request, nodeid, count in
      guard let request else { return }
      Dispatch.fileSystem(request)?.table.forget(UInt64(nodeid), count: count)
      fuse_reply_none(request)
    }
    table.forget_multi = { request, count, forgets in
      guard let request else { return }
      if let table = Dispatch.fileSystem(request)?.table {
        // SAFETY: libfuse lends `count` records for the length of the call.
        for forget in UnsafeBufferPointer(start: forgets, count: count) {
          table.forget(UInt64(forget.ino), count: forget.nlookup)
        }
      }
      fuse_reply_none(request)
    }
    table.readlink = { request, nodeid in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        var target = try fileSystem.readLink(UInt64(nodeid))
        target.append(0)
        target.withUnsafeBytes { bytes in
          _ = fuse_reply_readlink(request, bytes.baseAddress?.assumingMemoryBound(to: CChar.self))
        }
      }
    }
    table.statfs = { request, nodeid in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        var statistics = try fileSystem.statistics()
        fuse_reply_statfs(request, &statistics)
      }
    }
  }

  private static func addRefusals(to table: inout fuse_lowlevel_ops) {
    // Without an answer of our own this would be ENOSYS, which is no error of ioctl(2).
    table.ioctl = { request, _, _, _, _, _, _, _, _ in
      if let request { fuse_reply_err(request, ENOTTY) }
    }
  }

  private static func addAttributes(to table: inout fuse_lowlevel_ops) {
    table.getattr = { request, nodeid, _ in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        let inode = try fileSystem.inode(UInt64(nodeid))
        var attributes = try fileSystem.attributes(inode)
        RequestContext.birth = attributes.birth
        fuse_reply_attr(request, &attributes.stat, attributes.timeout)
      }
    }
    table.setattr = { request, nodeid, values, bits, _ in
      Dispatch.serve(request, nodeid) { fileSystem, request in
        guard let values else { throw MountFailure.invalid }
        var attributes = try fileSystem.setAttributes(
          UInt64(nodeid), AttributeChange(values.pointee, bits: bits), by: Writer(request),
          stripping: .withoutPrivileges(request))
        fuse_reply_attr(request, &attributes.stat, attributes.timeout)
      }
    }
  }

  private static func addCreation(to table: inout fuse_lowlevel_ops) {
    table.mkdir = { request, parent, name, mode in
      Dispatch.serve(request, parent, name: name) { fileSystem, request in
        let entry = try fileSystem.makeDirectory(
          UInt64(parent), try Dispatch.name(name), mode: mode, Caller(request))
        Dispatch.reply(fileSystem, request, entry)
      }
    }
    table.mknod = { request, parent, name, mode, device in
      Dispatch.serve(request, parent, name: name) { fileSystem, request in
        let entry = try fileSystem.makeNode(
          UInt64(parent), try Dispatch.name(name), mode: mode, device: UInt64(device),
          Caller(request))
        Dispatch.reply(fileSystem, request, entry)
      }
    }
    table.symlink = { request, target, parent, name in
      Dispatch.serve(request, parent, name: name) { fileSystem, request in
        let entry = try fileSystem.makeLink(
          UInt64(parent), try Dispatch.name(name), target: try Dispatch.text(target),
          Caller(request))
        Dispatch.reply(fileSystem, request, entry)
      }
    }
    table.link = { request, nodeid, newParent, newName in
      Dispatch.serve(request, newParent, name: newName) { fileSystem, request in
        let entry = try fileSystem.link(
          UInt64(nodeid), to: UInt64(newParent), try Dispatch.name(newName))
        Dispatch.reply(fileSystem, request, entry)
      }
    }
    table.create = { request, parent, name, mode, info in
      Dispatch.serve(request, parent, name: name) { fileSystem, request in
        guard let info else { throw MountFailure.invalid }
        let (entry, opened) = try fileSystem.createAndOpen(
          UInt64(parent), try Dispatch.name(name), mode: mode, flags: info.pointee.flags,
          Caller(request), stripping: .withoutPrivileges(request))
        let result = Reply.create(
          request, entry: entry.parameters, handle: 0, flags: opened.flags,
          backingID: opened.backingID)
        if result == -ENOENT, let inode = entry.inode {
          fileSystem.close(inode, opened.file, flags: info.pointee.flags)
          fileSystem.table.forget(inode.nodeid, count: 1)
        }
      }
    }
  }

  private static func addRemoval(to table: inout fuse_lowlevel_ops) {
    table.unlink = { request, parent, name in
      Dispatch.perform(request, parent, name: name) { fileSystem, _ in
        try fileSystem.unlink(UInt64(parent), try Dispatch.name(name))
      }
    }
    table.rmdir = { request, parent, name in
      Dispatch.perform(request, parent, name: name) { fileSystem, _ in
        try fileSystem.removeDirectory(UInt64(parent), try Dispatch.name(name))
      }
    }
    table.rename = { request, parent, name, newParent, newName, flags in
      Dispatch.perform(request, parent, name: name) { fileSystem, _ in
        try fileSystem.rename(
          UInt64(parent), try Dispatch.name(name), UInt64(newParent), try Dispatch.name(newName),
          flags: RenameFlags(rawValue: flags))
      }
    }
  }
}

extension AttributeChange {
  /// What the bits of a SETATTR select from its values.
  init(_ values: stat, bits: Int32) {
    func has(_ bit: Int32) -> Bool { bits & bit != 0 }
    if has(FUSE_SET_ATTR_MODE) { mode = values.st_mode }
    if has(FUSE_SET_ATTR_UID) { uid = values.st_uid }
    if has(FUSE_SET_ATTR_GID) { gid = values.st_gid }
    // A size beyond what a signed offset holds is left to fail as too large.
    if has(FUSE_SET_ATTR_SIZE) { size = UInt64(bitPattern: Int64(values.st_size)) }
    if has(FUSE_SET_ATTR_ATIME_NOW) {
      access = .now
    } else if has(FUSE_SET_ATTR_ATIME) {
      access = .set(TimeSpec(values.st_atim))
    }
    if has(FUSE_SET_ATTR_MTIME_NOW) {
      modification = .now
    } else if has(FUSE_SET_ATTR_MTIME) {
      modification = .set(TimeSpec(values.st_mtim))
    }
  }
}
