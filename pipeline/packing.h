#pragma once
// Packed streams: gzip (members, one behind another) and Zstandard (frames), told by the extension.

#include "ops/base/library.h"
#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>

enum packing { PACKING_NONE, PACKING_GZIP, PACKING_ZSTD, PACKINGS };

// By a name's last extension, .gz or .zst, in whatever case.
enum packing packing_of(const char *name);
const char *packing_extension(enum packing packing); // ".gz"; PACKING_NONE: ""
// A name's last extension if it stands for a packing that is not known here, such as .bz2; or NULL.
const char *packing_unsupported(const char *name);
size_t packing_stem(const char *name); // bytes of the name without that extension
void packing_libraries(struct library *zlib, struct library *zstd);

struct unpacker;

// One run of an unpacker or packer: `in` is used from its front, `out` filled from its front.
struct packing_run {
    const char *in;
    size_t in_bytes;
    char *out;
    size_t room;
    size_t used, made; // filled
};

// PACKING_GZIP or PACKING_ZSTD. Memory: 48 KiB for gzip; for zstd what the frame's window needs, at
// most 128 MiB. Errors: NO_MEMORY.
enum status unpacker_open(enum packing packing, struct unpacker **opened);
// To the start of another stream; what is set up stays.
void unpacker_reset(struct unpacker *unpacker);
// NULL, or why the stream cannot be read on: text of the unpacker's, until its next call. Neither
// used nor made: it wants more input.
const char *unpacker_run(struct unpacker *unpacker, struct packing_run *run);
// May the stream end here? Not before its first member, nor inside of one.
bool unpacker_may_end(const struct unpacker *unpacker);
void unpacker_close(struct unpacker *unpacker); // accepts NULL

struct packer;

enum packer_end {
    PACKER_GO_ON, // keep back what may pack better with what follows
    PACKER_FLUSH, // all that came in can be unpacked from what went out
    PACKER_FINISH // and the stream ends
};

// The same bytes, cut into the same runs, give the same stream, without times or names in it.
// Errors: NO_MEMORY.
enum status packer_open(enum packing packing, struct packer **opened);
// *done: all input is used and `end` is carried out; otherwise there was no room, and the rest
// wants a call of the same kind. Errors: NO_MEMORY, UNEXPECTED.
enum status packer_run(struct packer *packer, struct packing_run *run, enum packer_end end,
                       bool *done);
void packer_close(struct packer *packer); // accepts NULL
