#pragma once
// Dead letters as JSON text.

#include "pipeline/bytes.h"
#include "pipeline/record.h"

// One object, without a line end; the record in base64. Errors: NO_MEMORY.
enum status letter_json(const struct dead_letter *letter, struct bytes *out);
