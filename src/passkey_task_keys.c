// Keys are a function of the seed and of where a sample stands, so that every machine and every number
// of ranks draws the same:
//
//   mix(x): x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB; x ^= x >> 31
//   step = 0x9E3779B97F4A7C15
//   s = mix(mix(mix(mix(seed + step) ^ kind) + a) + b)            all modulo 2^64
//   x = mix(s + (t + 1) * step) for the first t = 0, 1, ... with x >= 2^64 mod count
//   key = least + x mod count, in decimal, with zeros in front
//
// (splitmix64, with Lemire's and others' way to leave out what would favour small keys.)
// kind 0: a is the length in tokens, b the sample's number among those of that length. kind 1, for
// --depths even and --positions: a is the units of filler before the key, b how many samples of this
// length stood there before, so that lengths share keys where they share places. kind 2, for samples that
// are described: a is the xxh3-64 of the id, b 0. least and count are 0 and 10^digits; where no key begins
// with 0, 10^(digits - 1) and nine times that. A key's name, where a style has names, is that of mix(key).
#include "src/passkey_task_inner.h"

#include <inttypes.h>
#include <stdio.h>

#define STEP 0x9E3779B97F4A7C15U

uint64_t passkey_mix(uint64_t bits) {
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9U;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBU;
    return bits ^ (bits >> 31);
}

void passkey_key_range(const struct passkey_task *task, uint64_t *least, uint64_t *count) {
    uint64_t ten = 1;
    for (int64_t i = 1; i < task->digits; i++) {
        ten *= 10;
    }
    *least = task->style->padded ? 0 : ten;
    *count = task->style->padded ? 10 * ten : 9 * ten;
}

void passkey_key_text(const struct passkey_task *task, uint64_t value, char *key) {
    snprintf(key, PASSKEY_KEY_MOST, "%0*" PRIu64, (int)task->digits, value);
}

void passkey_key_draw(const struct passkey_task *task, uint64_t seed, enum passkey_draw draw,
                      uint64_t a, uint64_t b, char *key) {
    uint64_t least = 0, count = 0, bits = 0;
    uint64_t stream = passkey_mix(passkey_mix(seed + STEP) ^ (uint64_t)draw);
    passkey_key_range(task, &least, &count);
    stream = passkey_mix(passkey_mix(stream + a) + b);
    do {
        stream += STEP;
        bits = passkey_mix(stream);
    } while (bits < (UINT64_MAX - count + 1) % count);
    passkey_key_text(task, least + bits % count, key);
}
