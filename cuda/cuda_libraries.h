#pragma once
// What the plug-in was built with and what it finds, for plugin.h.

#include "ops/base/library.h"

#include <stdint.h>

C_BEGIN

int32_t cuda_libraries(struct library *library, int32_t most);

C_END
