#define _GNU_SOURCE
#include "CLinuxTransport.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct scrim_ring {
  int descriptor;
  unsigned entries;
  unsigned tail;       // next submission to fill
  void *rings;
  size_t rings_size;
  unsigned char *submissions;
  size_t submissions_size;
  unsigned *submission_tail;
  const unsigned *submission_head;
  unsigned submission_mask;
  unsigned *completion_head;
  const unsigned *completion_tail;
  unsigned completion_mask;
  const struct io_uring_cqe *completions;
  int listens;
  sigset_t listening;  // the thread's mask while it waits
};

// linux/fuse.h of the build machine may not know them: struct fuse_uring_cmd_req and its commands.
struct fuse_command {
  uint64_t flags;
  uint64_t commit_id;
  uint16_t queue_id;
  uint8_t padding[6];
};
enum { FUSE_REGISTER = 1, FUSE_COMMIT_AND_FETCH = 2, SUBMISSION_SIZE = 128 };

static int map_rings(struct scrim_ring *ring, const struct io_uring_params *params) {
  size_t submission_ring = params->sq_off.array + params->sq_entries * sizeof(unsigned);
  size_t completion_ring = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
  ring->rings_size = submission_ring > completion_ring ? submission_ring : completion_ring;
  ring->rings = mmap(NULL, ring->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                     ring->descriptor, IORING_OFF_SQ_RING);
  if (ring->rings == MAP_FAILED) return -errno;
  ring->submissions_size = (size_t)params->sq_entries * SUBMISSION_SIZE;
  ring->submissions = mmap(NULL, ring->submissions_size, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_POPULATE, ring->descriptor, IORING_OFF_SQES);
  if (ring->submissions == MAP_FAILED) return -errno;

  unsigned char *base = ring->rings;
  ring->submission_tail = (unsigned *)(base + params->sq_off.tail);
  ring->submission_head = (unsigned *)(base + params->sq_off.head);
  ring->submission_mask = *(unsigned *)(base + params->sq_off.ring_mask);
  ring->completion_head = (unsigned *)(base + params->cq_off.head);
  ring->completion_tail = (unsigned *)(base + params->cq_off.tail);
  ring->completion_mask = *(unsigned *)(base + params->cq_off.ring_mask);
  ring->completions = (struct io_uring_cqe *)(base + params->cq_off.cqes);
  ring->entries = params->sq_entries;
  unsigned *array = (unsigned *)(base + params->sq_off.array);
  for (unsigned i = 0; i < params->sq_entries; i++) array[i] = i;
  return 0;
}

int scrim_ring_open(unsigned entries, int device, struct scrim_ring **result) {
  struct scrim_ring *ring = calloc(1, sizeof *ring);
  if (ring == NULL) return -ENOMEM;
  ring->rings = MAP_FAILED;
  ring->submissions = MAP_FAILED;
  // Completions are only looked for when the thread waits, so nothing need interrupt it in between.
  struct io_uring_params params = {
      .flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
  ring->descriptor = (int)syscall(SYS_io_uring_setup, entries, &params);
  int error = ring->descriptor < 0 ? -errno : 0;
  if (error == 0 && !(params.features & IORING_FEAT_SINGLE_MMAP)) error = -EINVAL;
  if (error == 0) error = map_rings(ring, &params);
  if (error == 0 &&
      syscall(SYS_io_uring_register, ring->descriptor, IORING_REGISTER_FILES, &device, 1) < 0)
    error = -errno;
  if (error < 0) {
    scrim_ring_close(ring);
    return error;
  }
  *result = ring;
  return 0;
}

void scrim_ring_close(struct scrim_ring *ring) {
  if (ring->submissions != MAP_FAILED) munmap(ring->submissions, ring->submissions_size);
  if (ring->rings != MAP_FAILED) munmap(ring->rings, ring->rings_size);
  if (ring->descriptor >= 0) close(ring->descriptor);
  free(ring);
}

static int queue(struct scrim_ring *ring, uint32_t operation, uint64_t entry,
                 const struct fuse_command *command, const struct iovec *vectors) {
  unsigned head = __atomic_load_n(ring->submission_head, __ATOMIC_ACQUIRE);
  if (ring->tail - head >= ring->entries) return -ENOBUFS;
  unsigned index = ring->tail & ring->submission_mask;
  struct io_uring_sqe *sqe =
      (struct io_uring_sqe *)(ring->submissions + (size_t)index * SUBMISSION_SIZE);
  memset(sqe, 0, SUBMISSION_SIZE);
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->flags = IOSQE_FIXED_FILE;  // file 0: the device
  sqe->cmd_op = operation;
  sqe->addr = (uint64_t)(uintptr_t)vectors;
  sqe->len = vectors != NULL ? 2 : 0;
  sqe->user_data = entry;
  memcpy(sqe->cmd, command, sizeof *command);
  ring->tail++;
  return 0;
}

int scrim_ring_register(struct scrim_ring *ring, uint64_t entry, uint16_t queue_id,
                        const struct iovec *vectors) {
  struct fuse_command command = {.queue_id = queue_id};
  return queue(ring, FUSE_REGISTER, entry, &command, vectors);
}

int scrim_ring_commit(struct scrim_ring *ring, uint64_t entry, uint16_t queue_id,
                      uint64_t commit) {
  struct fuse_command command = {.commit_id = commit, .queue_id = queue_id};
  return queue(ring, FUSE_COMMIT_AND_FETCH, entry, &command, NULL);
}

int scrim_ring_listen(struct scrim_ring *ring, int signal) {
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, signal);
  int error = pthread_sigmask(SIG_BLOCK, &blocked, &ring->listening);
  if (error != 0) return -error;
  sigdelset(&ring->listening, signal);
  ring->listens = 1;
  return 0;
}

int scrim_ring_submit(struct scrim_ring *ring, unsigned completions) {
  __atomic_store_n(ring->submission_tail, ring->tail, __ATOMIC_RELEASE);
  unsigned head = __atomic_load_n(ring->submission_head, __ATOMIC_ACQUIRE);
  unsigned flags = completions > 0 ? IORING_ENTER_GETEVENTS : 0;
  int result = (int)syscall(SYS_io_uring_enter, ring->descriptor, ring->tail - head, completions,
                            flags, ring->listens ? &ring->listening : NULL, (size_t)(_NSIG / 8));
  return result < 0 ? -errno : result;
}

int scrim_ring_next(struct scrim_ring *ring, uint64_t *entry, int32_t *result) {
  unsigned head = *ring->completion_head;
  if (head == __atomic_load_n(ring->completion_tail, __ATOMIC_ACQUIRE)) return 0;
  const struct io_uring_cqe *completion = &ring->completions[head & ring->completion_mask];
  *entry = completion->user_data;
  *result = completion->res;
  __atomic_store_n(ring->completion_head, head + 1, __ATOMIC_RELEASE);
  return 1;
}
