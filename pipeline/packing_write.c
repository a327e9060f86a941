// Packing of outputs.
#define ZLIB_CONST // zlib does not write to what it reads
#include "ops/base/check.h"
#include "pipeline/packing.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#define GZIP_ONLY   (15 + 16) // windowBits: the largest window, and a gzip header
#define GZIP_MEMORY 8         // zlib's own default

struct packer {
    enum packing packing;
    z_stream gzip;
    ZSTD_CCtx *zstd;
};

enum status packer_open(enum packing packing, struct packer **opened) {
    struct packer *packer = calloc(1, sizeof *packer);
    if (packer == NULL) return FAIL(NO_MEMORY, "packing");
    bool good = false;
    packer->packing = packing;
    if (packing == PACKING_GZIP) {
        good = deflateInit2(&packer->gzip, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_ONLY,
                            GZIP_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
    } else {
        packer->zstd = ZSTD_createCCtx();
        good = packer->zstd != NULL &&
               !ZSTD_isError(ZSTD_CCtx_setParameter(packer->zstd, ZSTD_c_checksumFlag, 1));
    }
    if (!good) {
        packer_close(packer);
        return FAIL(NO_MEMORY, "packing");
    }
    *opened = packer;
    return STATUS_OK;
}

static enum status run_gzip(struct packer *packer, struct packing_run *run, enum packer_end end,
                            bool *done) {
    static const int flush[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH};
    z_stream *gzip = &packer->gzip;
    const uInt in = run->in_bytes > UINT_MAX ? UINT_MAX : (uInt)run->in_bytes;
    const uInt room = run->room > UINT_MAX ? UINT_MAX : (uInt)run->room;
    const bool all = in == run->in_bytes;
    gzip->next_in = (const Bytef *)run->in;
    gzip->avail_in = in;
    gzip->next_out = (Bytef *)run->out;
    gzip->avail_out = room;
    const int outcome = deflate(gzip, all ? flush[end] : Z_NO_FLUSH);
    run->used = in - gzip->avail_in;
    run->made = room - gzip->avail_out;
    // A flush that has nothing to do any more says so with Z_BUF_ERROR.
    if (outcome != Z_OK && outcome != Z_STREAM_END && outcome != Z_BUF_ERROR) {
        return FAIL(UNEXPECTED, "zlib: cannot pack (%d)", outcome);
    }
    *done = all && run->used == in &&
            (end == PACKER_FINISH ? outcome == Z_STREAM_END : gzip->avail_out > 0);
    return STATUS_OK;
}

static enum status run_zstd(struct packer *packer, struct packing_run *run, enum packer_end end,
                            bool *done) {
    static const ZSTD_EndDirective directive[] = {ZSTD_e_continue, ZSTD_e_flush, ZSTD_e_end};
    ZSTD_inBuffer in = {.src = run->in, .size = run->in_bytes};
    ZSTD_outBuffer out = {.dst = run->out, .size = run->room};
    const size_t left = ZSTD_compressStream2(packer->zstd, &out, &in, directive[end]);
    if (ZSTD_isError(left)) return FAIL(UNEXPECTED, "zstd: %s", ZSTD_getErrorName(left));
    run->used = in.pos;
    run->made = out.pos;
    *done = in.pos == in.size && (end == PACKER_GO_ON || left == 0);
    return STATUS_OK;
}

enum status packer_run(struct packer *packer, struct packing_run *run, enum packer_end end,
                       bool *done) {
    CHECK(run->room > 0);
    return packer->packing == PACKING_GZIP ? run_gzip(packer, run, end, done)
                                           : run_zstd(packer, run, end, done);
}

void packer_close(struct packer *packer) {
    if (packer == NULL) return;
    if (packer->packing == PACKING_GZIP) (void)deflateEnd(&packer->gzip);
    ZSTD_freeCCtx(packer->zstd);
    free(packer);
}
