// libfuse's low-level API. FUSE_USE_VERSION 35 is the newest that 3.14 and today's both speak.
#pragma once
#define FUSE_USE_VERSION 35
#include <fuse3/fuse_lowlevel.h>
#include <fuse3/fuse_opt.h>
