#pragma once
// What libFuzzer and replay.c call: one input, any bytes. Returns 0.

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
