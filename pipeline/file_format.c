// Which format an input file has.
#include "pipeline/file_format.h"

#include "pipeline/packing.h"

#include <string.h>
#include <strings.h>

static const char *const format_names[] = {"auto", "jsonl", "text", "u16", "u32"};

enum status file_format_parse(const char *name, enum file_format *format) {
    for (int i = FILE_AUTO; i <= FILE_U32; i++) {
        if (strcmp(name, format_names[i]) != 0) continue;
        *format = (enum file_format)i;
        return STATUS_OK;
    }
    return FAIL(USAGE, "there is no format %s: choose auto, jsonl, text, u16 or u32", name);
}

enum file_format file_format_of(const struct input *input, enum file_format asked) {
    static const struct {
        const char *extension;
        enum file_format format;
    } known[] = {
        {".jsonl",  FILE_JSONL},
        {".ndjson", FILE_JSONL},
        {".u16",    FILE_U16  },
        {".u32",    FILE_U32  }
    };
    if (asked != FILE_AUTO) return asked;
    if (strcmp(input->path, "-") == 0) return FILE_JSONL;
    const size_t stem = packing_stem(input->name);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const size_t bytes = strlen(known[i].extension);
        if (stem >= bytes &&
            strncasecmp(input->name + stem - bytes, known[i].extension, bytes) == 0) {
            return known[i].format;
        }
    }
    return FILE_TEXT;
}
