import CFuse
import Glibc

/// The functions libfuse calls instead of read and writev on the session's descriptor.
enum Hooks {
  /// Installs the hooks; the session must be mounted.
  static func install(_ session: OpaquePointer, device: Int32) -> Int32 {
    var io = fuse_custom_io()
    io.read = { device, buffer, capacity, _ in Hooks.read(device, buffer, capacity) }
    io.writev = { device, vectors, count, _ in Hooks.write(device, vectors, count) }
    return fuse_session_custom_io(session, &io, device)
  }

  private static func read(
    _ device: Int32, _ buffer: UnsafeMutableRawPointer?, _ capacity: Int
  ) -> Int {
    let count = Glibc.read(device, buffer, capacity)
    if count > 0, let worker = Worker.current, worker.expectsInit {
      worker.session.noteOffer(UnsafeRawBufferPointer(start: buffer, count: count))
    }
    return count
  }

  /// Sends a reply or a notification: to the ring entry in hand, with INIT repaired, or as it is.
  private static func write(
    _ device: Int32, _ vectors: UnsafeMutablePointer<iovec>?, _ count: Int32
  ) -> Int {
    guard let vectors, count > 0, let worker = Worker.current, worker.session.device == device,
      let header = vectors[0].iov_base, vectors[0].iov_len >= Wire.replyHeaderSize
    else { return writev(device, vectors, count) }
    let unique = header.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    // A notification has no unique, the answer to an INTERRUPT that of another request: both go to the device.
    guard unique == worker.unique, unique != 0 else { return writev(device, vectors, count) }
    worker.replied = true
    let all = UnsafeBufferPointer(start: vectors, count: Int(count))
    if worker.asksForBirth {
      return Statx.send(all, birth: worker.birth) { send($0, device, worker) }
    }
    if worker.expectsInit, worker.entry == nil, count == 2 {
      return replyToInit(device, all, worker)
    }
    return send(all, device, worker)
  }

  private static func send(
    _ vectors: UnsafeBufferPointer<iovec>, _ device: Int32, _ worker: Worker
  ) -> Int {
    if let entry = worker.entry { return entry.put(vectors) }
    return writev(device, vectors.baseAddress, Int32(vectors.count))
  }

  private static func replyToInit(
    _ device: Int32, _ vectors: UnsafeBufferPointer<iovec>, _ worker: Worker
  ) -> Int {
    let length = vectors[1].iov_len
    return withUnsafeTemporaryAllocation(byteCount: length, alignment: 8) { body in
      body.copyMemory(from: UnsafeRawBufferPointer(start: vectors[1].iov_base, count: length))
      let agreed = worker.session.rewriteInit(body)
      return withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { patched in
        patched[0] = vectors[0]
        patched[1] = iovec(iov_base: body.baseAddress, iov_len: length)
        let result = writev(device, patched.baseAddress, 2)
        if result > 0 {
          worker.expectsInit = false
          worker.session.completeInit(agreed)
        }
        return result
      }
    }
  }
}
