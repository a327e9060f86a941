#pragma once
// One output: a file that gets its name only when it is complete, or standard output. A name that
// ends in .gz or .zst is packed.

#include "pipeline/bytes.h"
#include "pipeline/packing.h"

struct output {
    int fd;
    char *path;            // the final name; "standard output"
    char *partial;         // what is written to; NULL: path itself, a pipe or device
    struct bytes pending;  // not yet written; callers put whole lines here
    struct packer *packer; // NULL: not packed
    char *packed;          // room for what is packed
    bool kept_back;        // by the packer
    const char *before;    // borrowed: a file that is to be newer than this one; NULL: none
};

// A name that promises a packing which is not known is refused. Errors: USAGE.
enum status output_check_name(const char *path);
// "-" is standard output. A name that is a link is followed; a pipe or device is written to as it
// is, anything else as PATH.partial. Errors: IO, NO_MEMORY,
// USAGE (see output_check_name).
enum status output_open(const char *path, struct output **opened);
// Write what is pending; of a packed output, what there is of it. Errors: IO, naming the output.
enum status output_write(struct output *output);
// The same, and all of it: for those who read along. Packs less well.
enum status output_flush(struct output *output);
// Write, sync, close and rename into place; replace: a file of that name may be replaced. Frees
// the output in any case; after an error there is no partial file. Errors: IO, USAGE (there is one).
enum status output_finish(struct output *output, bool replace);
// Close without finishing: the partial file is removed. Accepts NULL.
void output_drop(struct output *output);
// Removes what a run that was killed has left of this output, if anything.
void output_remove_partial(const char *path);

// The steps of output_finish, for many outputs at once. After output_end there is nothing to write
// any more, and no buffer; the file is to be synced before it is named. A rename is kept for good once its folder is synced.
enum status output_end(struct output *output);
enum status output_sync(struct output *output);
enum status output_name(struct output *output, bool replace); // frees it in any case
void output_sync_folder(const char *path);                    // that of an output's name
