// Any bytes as a state file: taken is what slot_file_write would have written, and nothing else. The
// first byte says whether the checksums of the header and of the state are made right, which no
// mutation would.

#define _GNU_SOURCE // memfd_create

#include "ops/base/check.h"
#include "ops/base/hash.h"
#include "pipeline/slot_file.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Of the file's layout: where its two checksums and its state lie.
enum { STATE_HASH = 176, HEADER_HASH = 184, STATE = 192, STATE_BYTES = 40 };
enum { FIX_HEADER = 1, FIX_STATE = 2 };

static const struct slot_file what = {
    .key = 7,
    .slot_bytes = STATE_BYTES,
    .image = {.model_hash = 0x1234, .numerics = "cpu f32 v1", .position = 4096},
};

// What a right file begins with.
static void write_right(uint8_t header[STATE]) {
    char folder[] = "/tmp/slot_file_fuzz-XXXXXX", path[64];
    const char state[STATE_BYTES] = {0};
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/state", folder);
    CHECK(slot_file_write(path, &what, state, false) == STATUS_OK);
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fread(header, 1, STATE, file) == STATE);
    fclose(file);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

static void put_hash(uint8_t *bytes, size_t at, uint64_t hash) {
    memcpy(bytes + at, &hash, sizeof hash);
}

static void try_file(const uint8_t *bytes, size_t size, const uint8_t *right) {
    static int file = -1;
    char path[64], state[STATE_BYTES];
    if (file < 0) file = memfd_create("state", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    CHECK(file >= 0 && ftruncate(file, 0) == 0);
    CHECK(pwrite(file, bytes, size, 0) == (ssize_t)size);
    if (slot_file_read(path, &what, state) != STATUS_OK) return;
    const uint64_t hash = hash_bytes(state, sizeof state);
    CHECK(size == STATE + STATE_BYTES);
    CHECK(memcmp(bytes, right, STATE_HASH) == 0);
    CHECK(memcmp(bytes + STATE_HASH, &hash, sizeof hash) == 0);
    CHECK(memcmp(bytes + STATE, state, sizeof state) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t right[STATE];
    if (right[0] == 0) write_right(right);
    if (size == 0) return 0;
    const int fix = data[0];
    uint8_t *bytes = malloc(size);
    CHECK(bytes != NULL);
    memcpy(bytes, data + 1, --size);
    if (size > STATE && (fix & FIX_STATE)) {
        const size_t state_bytes = size - STATE < STATE_BYTES ? size - STATE : STATE_BYTES;
        put_hash(bytes, STATE_HASH, hash_bytes(bytes + STATE, state_bytes));
    }
    if (size >= STATE && (fix & FIX_HEADER)) {
        put_hash(bytes, HEADER_HASH, hash_bytes(bytes, HEADER_HASH));
    }
    try_file(bytes, size, right);
    free(bytes);
    return 0;
}
