// What the FUSE transport needs of Linux and Swift cannot import. Each call returns a negative errno on failure.
#pragma once
#include <stdint.h>
#include <sys/uio.h>

/// Pins the calling thread to one processor.
int scrim_pin_thread(int processor);

/// Lets the calling thread run wherever the process's first thread may.
int scrim_unpin_thread(void);

/// Puts every thread under the usual policy but the calling one under SCHED_IDLE, or back; those they start later follow
/// them. Their I/O priorities stay as they are. What can be changed is, and the first failure is returned.
int scrim_set_idle_policy(int idle);

/// Whether the calling thread, which must have the usual policy, could leave SCHED_IDLE again, by trying. After a failure
/// to do so it is still under it.
int scrim_try_idle_policy(void);

/// Whether the calling thread's effective set holds the capability: 1, 0.
int scrim_has_capability(int capability);

/// Removes a capability from the calling thread's effective set: 1 if it was there, 0 if not.
int scrim_drop_capability(int capability);

/// Puts a capability of the permitted set back into the effective set.
int scrim_raise_capability(int capability);

#define SCRIM_CAP_FSETID 4
#define SCRIM_CAP_SYS_ADMIN 21

/// An io_uring with 128-byte submissions whose only file is a FUSE device; one thread makes, uses and closes it.
///
/// Kept in C because the system's and other packages' io_uring headers disagree about the kernel's structures.
struct scrim_ring;

/// Makes a ring for `entries` commands in flight.
int scrim_ring_open(unsigned entries, int device, struct scrim_ring **ring);
void scrim_ring_close(struct scrim_ring *ring);

/// Queue FUSE_IO_URING_CMD_REGISTER with the header block and the payload, or _COMMIT_AND_FETCH. -ENOBUFS when full.
int scrim_ring_register(struct scrim_ring *ring, uint64_t entry, uint16_t queue, const struct iovec *vectors);
int scrim_ring_commit(struct scrim_ring *ring, uint64_t entry, uint16_t queue, uint64_t commit);

/// From now on the signal reaches the calling thread only while it sleeps in the next call, which it ends.
int scrim_ring_listen(struct scrim_ring *ring, int signal);

/// Hands over what is queued, then sleeps until at least `completions` are there. Number handed over.
int scrim_ring_submit(struct scrim_ring *ring, unsigned completions);

/// Takes a completion: 1, or 0 when there is none.
int scrim_ring_next(struct scrim_ring *ring, uint64_t *entry, int32_t *result);
