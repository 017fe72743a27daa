// Lends one capability to a mount: the kernel takes backing files only from a holder of CAP_SYS_ADMIN, and the process
// that holds the keys should have no privilege at all. Started by that process, or by systemd for a connection, with
// the socket as descriptor 3. It never sees a key, a name inside the vault or a byte of a file.
import BrokerProtocol
import CLinux
import Glibc

let isPrivileged = scrim_keep_only_sys_admin() == 0
var status = stat()
guard fstat(BrokerChannel.inheritedDescriptor, &status) == 0,
  status.st_mode & S_IFMT == S_IFSOCK
else {
  let words = "scrim-broker is started by scrim, see scrim(1)\n"
  _ = write(STDERR_FILENO, words, words.utf8.count)
  exit(64)
}
var broker = Broker(
  channel: BrokerChannel(descriptor: BrokerChannel.inheritedDescriptor), isPrivileged: isPrivileged)
broker.serve()
