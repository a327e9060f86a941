// Any bytes as an index of shards: what is taken names files of one folder only, and each tensor
// once.

#include "ops/base/check.h"
#include "ops/model/shard_index.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct shard_index index;
    if (shard_index_parse("fuzz", (const char *)data, size, &index) != STATUS_OK) return 0;
    CHECK(index.count > 0 && index.file_count > 0 && index.file_count <= index.count);
    for (int32_t i = 0; i < index.file_count; i++) {
        const char *file = index.files[i];
        CHECK(file[0] != '\0' && file[0] != '.' && strchr(file, '/') == NULL);
        for (int32_t other = 0; other < i; other++) {
            CHECK(strcmp(file, index.files[other]) != 0);
        }
    }
    for (int64_t i = 0; i < index.count; i++) {
        const struct shard_row *row = &index.rows[i];
        CHECK(row->file >= 0 && row->file < index.file_count);
        CHECK(shard_index_find(&index, row->tensor) == row->file);
        CHECK(i == 0 || strcmp(index.rows[i - 1].tensor, row->tensor) < 0);
    }
    shard_index_free(&index);
    return 0;
}
