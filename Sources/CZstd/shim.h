// zstd's one-shot and context API.
#pragma once
#include <zstd.h>
#include <zstd_errors.h>
