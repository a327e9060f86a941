#pragma once
// CHECK is for what only a bug can break: kept in release, it stops the whole job.
// Input from a file, the network or a peer is never a CHECK.

#include "ops/base/linkage.h"

#include <stdint.h>

C_BEGIN

__attribute__((noreturn)) void check_failed(const char *file, int line, const char *what);

// Set once by main: stops the other ranks too. Default: none.
void check_set_stop(void (*stop)(void));

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))

C_END
