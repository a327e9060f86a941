// Any bytes as a packed stream; the first byte says which packing. Read in one piece and in crumbs,
// it ends, keeps to its buffers, and gives the same bytes.

#include "ops/base/check.h"
#include "pipeline/packing.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#define OUT_MOST 65536 // a few bytes unpack into far more than anybody wants to wait for

struct unpacked {
    char out[OUT_MOST];
    size_t made;
    bool wrong, may_end;
};

static void unpack(struct unpacker *unpacker, const uint8_t *data, size_t size, size_t crumb,
                   struct unpacked *unpacked) {
    char *in = malloc(crumb); // no byte to spare, so that a sanitizer sees a step past the end
    size_t at = 0;
    if (in == NULL) return;
    unpacker_reset(unpacker);
    memset(unpacked, 0, sizeof *unpacked);
    while (unpacked->made < OUT_MOST) {
        const size_t room = OUT_MOST - unpacked->made;
        struct packing_run run = {.in = in,
                                  .in_bytes = size - at < crumb ? size - at : crumb,
                                  .out = unpacked->out + unpacked->made,
                                  .room = crumb < size && room > 7 ? 7 : room};
        if (run.in_bytes > 0) memcpy(in, data + at, run.in_bytes);
        const char *wrong = unpacker_run(unpacker, &run);
        CHECK(run.used <= run.in_bytes && run.made <= run.room);
        at += run.used;
        unpacked->made += run.made;
        unpacked->wrong = wrong != NULL;
        if (wrong != NULL || (run.used == 0 && run.made == 0)) break;
    }
    unpacked->may_end = unpacker_may_end(unpacker);
    free(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct unpacked whole, crumbs; // large
    struct unpacker *unpacker = NULL;
    if (size == 0) return 0;
    CHECK(unpacker_open(data[0] % 2 == 0 ? PACKING_GZIP : PACKING_ZSTD, &unpacker) == STATUS_OK);
    unpack(unpacker, data + 1, size - 1, size, &whole);
    unpack(unpacker, data + 1, size - 1, 1, &crumbs);
    unpacker_close(unpacker);
    if (whole.wrong || crumbs.wrong) return 0; // found out a little sooner or later
    CHECK(whole.made == crumbs.made);
    CHECK(memcmp(whole.out, crumbs.out, whole.made) == 0);
    if (whole.made < OUT_MOST) CHECK(whole.may_end == crumbs.may_end);
    return 0;
}
