#pragma once
// What the bytes of an input file are.

#include "pipeline/inputs.h"

// JSONL has a document a line; of the others each file is one document: text, or token ids of 2 or
// 4 bytes, little-endian.
enum file_format { FILE_AUTO, FILE_JSONL, FILE_TEXT, FILE_U16, FILE_U32 };

// By its name: "auto", "jsonl", "text", "u16", "u32". Errors: USAGE.
enum status file_format_parse(const char *name, enum file_format *format);
// FILE_AUTO asks the extension, below that of a packing; standard input is JSONL then, and an
// unknown extension is text.
enum file_format file_format_of(const struct input *input, enum file_format asked);
