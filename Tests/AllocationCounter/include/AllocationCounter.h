#pragma once
#include <stdint.h>

// How often the calling thread has asked for memory.
uint64_t allocation_count(void);

// Whether it is counted in this program.
int counts_allocations(void);
