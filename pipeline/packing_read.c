// Unpacking, whatever the bytes are.
#define ZLIB_CONST // zlib does not write to what it reads
#include "ops/base/check.h"
#include "pipeline/packing.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define GZIP_ONLY       (15 + 16) // windowBits: the largest window, and a gzip header
#define ZSTD_WINDOW_LOG 27        // 128 MiB, what zstd itself takes unless told otherwise

struct unpacker {
    enum packing packing;
    z_stream gzip;
    ZSTD_DCtx *zstd;
    bool may_end;
};

enum status unpacker_open(enum packing packing, struct unpacker **opened) {
    struct unpacker *unpacker = calloc(1, sizeof *unpacker);
    if (unpacker == NULL) return FAIL(NO_MEMORY, "unpacking");
    bool good = false;
    unpacker->packing = packing;
    if (packing == PACKING_GZIP) {
        good = inflateInit2(&unpacker->gzip, GZIP_ONLY) == Z_OK;
    } else {
        unpacker->zstd = ZSTD_createDCtx();
        good = unpacker->zstd != NULL && !ZSTD_isError(ZSTD_DCtx_setParameter(
                                             unpacker->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG));
    }
    if (!good) {
        unpacker_close(unpacker);
        return FAIL(NO_MEMORY, "unpacking");
    }
    *opened = unpacker;
    return STATUS_OK;
}

void unpacker_reset(struct unpacker *unpacker) {
    unpacker->may_end = false;
    if (unpacker->packing == PACKING_GZIP) {
        (void)inflateReset(&unpacker->gzip);
    } else {
        (void)ZSTD_DCtx_reset(unpacker->zstd, ZSTD_reset_session_only);
    }
}

static const char *run_gzip(struct unpacker *unpacker, struct packing_run *run) {
    z_stream *gzip = &unpacker->gzip;
    const uInt in = run->in_bytes > UINT_MAX ? UINT_MAX : (uInt)run->in_bytes;
    const uInt room = run->room > UINT_MAX ? UINT_MAX : (uInt)run->room;
    gzip->next_in = (const Bytef *)run->in;
    gzip->avail_in = in;
    gzip->next_out = (Bytef *)run->out;
    gzip->avail_out = room;
    const int outcome = inflate(gzip, Z_NO_FLUSH);
    run->used = in - gzip->avail_in;
    run->made = room - gzip->avail_out;
    if (run->used > 0) unpacker->may_end = false;
    switch (outcome) {
    case Z_STREAM_END: // a member's; another may follow
        unpacker->may_end = true;
        return inflateReset(gzip) == Z_OK ? NULL : "cannot go on";
    case Z_OK:
    case Z_BUF_ERROR: return NULL; // it wants more input or room
    case Z_MEM_ERROR: return "out of memory";
    default: return gzip->msg != NULL ? gzip->msg : "it is not gzip";
    }
}

static const char *run_zstd(struct unpacker *unpacker, struct packing_run *run) {
    ZSTD_inBuffer in = {.src = run->in, .size = run->in_bytes};
    ZSTD_outBuffer out = {.dst = run->out, .size = run->room};
    const size_t left = ZSTD_decompressStream(unpacker->zstd, &out, &in);
    run->used = in.pos;
    run->made = out.pos;
    if (ZSTD_isError(left)) {
        if (ZSTD_getErrorCode(left) == ZSTD_error_frameParameter_windowTooLarge) {
            return "its window is larger than 128 MiB: pack it again without --long, or with "
                   "--long=27 at most";
        }
        return ZSTD_getErrorName(left);
    }
    if (run->used > 0 || run->made > 0) unpacker->may_end = left == 0;
    return NULL;
}

const char *unpacker_run(struct unpacker *unpacker, struct packing_run *run) {
    CHECK(run->room > 0);
    return unpacker->packing == PACKING_GZIP ? run_gzip(unpacker, run) : run_zstd(unpacker, run);
}

bool unpacker_may_end(const struct unpacker *unpacker) {
    return unpacker->may_end;
}

void unpacker_close(struct unpacker *unpacker) {
    if (unpacker == NULL) return;
    if (unpacker->packing == PACKING_GZIP) (void)inflateEnd(&unpacker->gzip);
    ZSTD_freeDCtx(unpacker->zstd);
    free(unpacker);
}
