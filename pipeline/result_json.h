#pragma once
// Results as JSON: the one place that knows the names of the fields, which are part of the
// interface. Kafka and files carry the same text.

#include "pipeline/bytes.h"
#include "pipeline/record.h"

struct result_ids { // what a score depends on, beside its document; xxh3 of each
    uint64_t model, settings, numerics;
};

// One object a call, behind what out holds, without a line end. Attributes named as a field of
// ours are dropped. A number that is not finite is written as null. Errors: NO_MEMORY, and then
// out is as it was.
enum status result_json_score(const struct document_score *score, const struct result_ids *ids,
                              struct bytes *out);
enum status result_json_piece(const struct document_piece *piece, struct bytes *out);
enum status result_json_window(const struct document_window *window, struct bytes *out);
enum status result_json_retraction(const struct retraction *retraction, struct bytes *out);
