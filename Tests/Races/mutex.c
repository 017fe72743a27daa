// Tells ThreadSanitizer about Swift's `Mutex`. Its quick paths are compiled into the program, where the sanitizer sees
// atomic operations; the slow ones are in the library `Synchronization`, where it sees nothing, and it is the kernel that
// hands the mutex over. Loaded before that library, this takes the place of the slow paths and says what they do;
// proof.swift shows that it does, and that races are found all the same.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

// Absent in programs without the sanitizer, such as those that start the ones with it.
extern void __tsan_acquire(void *) __attribute__((weak));
extern void __tsan_release(void *) __attribute__((weak));

// Swift passes the mutex in the register of the context.
#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *mutex
#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

typedef SWIFT void (*lock_call)(uint32_t owner, SELF);
typedef SWIFT bool (*try_lock_call)(SELF);
typedef SWIFT void (*unlock_call)(SELF);

SWIFT void lock_slow(uint32_t owner, SELF) __asm__(LOCK);
SWIFT bool try_lock_slow(SELF) __asm__(TRY_LOCK);
SWIFT void unlock_slow(SELF) __asm__(UNLOCK);

static void *library(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (found == NULL) abort();
  return found;
}

SWIFT void lock_slow(uint32_t owner, SELF) {
  ((lock_call)library(LOCK))(owner, mutex);
  if (__tsan_acquire != NULL) __tsan_acquire(mutex);
}

SWIFT bool try_lock_slow(SELF) {
  bool locked = ((try_lock_call)library(TRY_LOCK))(mutex);
  if (locked && __tsan_acquire != NULL) __tsan_acquire(mutex);
  return locked;
}

SWIFT void unlock_slow(SELF) {
  if (__tsan_release != NULL) __tsan_release(mutex);
  ((unlock_call)library(UNLOCK))(mutex);
}
