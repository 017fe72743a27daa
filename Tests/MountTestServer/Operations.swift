import CFuse
import Glibc
import Mount
import Synchronization

extension Server {
  static var operations: fuse_lowlevel_ops {
    var table = fuse_lowlevel_ops()
    table.lookup = { request, parent, name in
      guard let server = Server.of(request), let name else { return }
      guard let entry = server.entry(String(cString: name)) else {
        fuse_reply_err(request, ENOENT)
        return
      }
      var copy = entry
      fuse_reply_entry(request, &copy)
    }
    table.getattr = { request, node, _ in
      guard let server = Server.of(request) else { return }
      server.count { $0.getattrs += 1 }
      guard var status = server.attributes(node) else {
        fuse_reply_err(request, ENOENT)
        return
      }
      fuse_reply_attr(request, &status, 0)
    }
    table.setattr = { request, node, change, valid, _ in
      guard let server = Server.of(request), let change else { return }
      server.change(request, node, change.pointee, valid)
    }
    table.open = { request, node, info in
      guard let server = Server.of(request), let request, let info else { return }
      server.open(request, node, flags: info.pointee.flags)
    }
    table.create = { request, parent, name, mode, info in
      guard let server = Server.of(request), let request, let name else { return }
      server.create(request, String(cString: name), mode)
    }
    table.read = { request, node, size, offset, info in
      guard let server = Server.of(request), let request, let info else { return }
      server.read(request, node, count: size, offset: Int(offset), handle: info.pointee.fh)
    }
    table.write = { request, node, bytes, size, offset, info in
      guard let server = Server.of(request), let request, let info else { return }
      let data = UnsafeRawBufferPointer(start: bytes, count: size)
      server.write(request, node, data, offset: Int(offset), handle: info.pointee.fh)
    }
    table.release = { request, node, info in
      guard let server = Server.of(request), let info else { return }
      server.count { $0.releases += 1 }
      if server.path(node) != nil {
        server.session?.backing.release(inode: node)
        close(Int32(truncatingIfNeeded: info.pointee.fh))
      }
      fuse_reply_err(request, 0)
    }
    table.readdir = { request, node, size, offset, _ in
      guard let server = Server.of(request), let request else { return }
      server.list(request, capacity: size, from: Int(offset))
    }
    return table
  }

  func entry(_ name: String) -> fuse_entry_param? {
    guard let node = node(name), let status = attributes(node) else { return nil }
    var entry = fuse_entry_param()
    entry.ino = node
    entry.attr = status
    entry.attr_timeout = 0
    entry.entry_timeout = 1
    return entry
  }

  func change(_ request: fuse_req_t?, _ node: UInt64, _ wanted: stat, _ valid: Int32) {
    guard let path = path(node) else {
      if valid & FUSE_SET_ATTR_SIZE != 0, node == Self.written {
        table.withLock { $0.writtenSize = min(Int(wanted.st_size), Self.writtenCapacity) }
      }
      var status = attributes(node) ?? stat()
      fuse_reply_attr(request, &status, 0)
      return
    }
    if valid & FUSE_SET_ATTR_MODE != 0 { chmod(path, wanted.st_mode & 0o7777) }
    if valid & FUSE_SET_ATTR_SIZE != 0 { truncate(path, wanted.st_size) }
    var status = attributes(node) ?? stat()
    fuse_reply_attr(request, &status, 0)
  }

  func open(_ request: fuse_req_t, _ node: UInt64, flags: Int32) {
    count { $0.opens += 1 }
    guard let path = path(node) else {
      Reply.open(request, handle: 0, flags: node == Self.written ? [.directIO] : [])
      return
    }
    let file = Glibc.open(path, O_RDWR | O_CLOEXEC | (flags & O_TRUNC))
    guard file >= 0 else {
      fuse_reply_err(request, errno)
      return
    }
    let id = session?.backing.acquire(inode: node, descriptor: file)
    if Reply.open(request, handle: UInt64(file), flags: [.keepCache], backingID: id) != 0 {
      session?.backing.release(inode: node)
      close(file)
    }
  }

  func create(_ request: fuse_req_t, _ name: String, _ mode: mode_t) {
    let file = Glibc.open("\(backing)/\(name)", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard file >= 0, let entry = entry(name) else {
      fuse_reply_err(request, errno)
      return
    }
    count { $0.opens += 1 }
    let id = session?.backing.acquire(inode: entry.ino, descriptor: file)
    Reply.create(request, entry: entry, handle: UInt64(file), flags: [], backingID: id)
  }

  func read(_ request: fuse_req_t, _ node: UInt64, count: Int, offset: Int, handle: UInt64) {
    self.count { $0.reads += 1 }
    guard node != Self.silent, let buffer = Reply.buffer() else { return }
    if path(node) != nil {
      let got = pread(Int32(truncatingIfNeeded: handle), buffer.base, count, off_t(offset))
      Reply.data(request, buffer, count: max(got, 0))
      return
    }
    let got = read(node, offset: offset, count: min(count, buffer.capacity), into: buffer.base)
    Reply.data(request, buffer, count: got)
  }

  func write(
    _ request: fuse_req_t, _ node: UInt64, _ data: UnsafeRawBufferPointer, offset: Int,
    handle: UInt64
  ) {
    let kills = RequestContext.killsPrivileges
    count {
      $0.writes += 1
      if kills { $0.kills += 1 }
    }
    if path(node) != nil {
      let put = pwrite(
        Int32(truncatingIfNeeded: handle), data.baseAddress, data.count, off_t(offset))
      fuse_reply_write(request, max(put, 0))
    } else if node == Self.written, write(offset: offset, bytes: data) {
      fuse_reply_write(request, data.count)
    } else {
      fuse_reply_err(request, ENOSPC)
    }
  }

  func list(_ request: fuse_req_t, capacity: Int, from: Int) {
    let names = table.withLock { $0.names.sorted { $0.value < $1.value } }
    guard let buffer = Reply.buffer() else {
      fuse_reply_err(request, ENOMEM)
      return
    }
    var used = 0
    for (index, item) in names.enumerated().dropFirst(from) {
      var status = stat()
      status.st_ino = UInt(item.value)
      status.st_mode = S_IFREG
      let room = min(capacity, buffer.capacity) - used
      let place = (buffer.base + used).assumingMemoryBound(to: CChar.self)
      let size = fuse_add_direntry(request, place, room, item.key, &status, off_t(index + 1))
      guard size <= room else { break }
      used += size
    }
    Reply.data(request, buffer, count: used)
  }
}
