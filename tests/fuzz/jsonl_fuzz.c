// Any bytes as a JSONL line: no step outside of it, and what is taken keeps its promises, down to
// the result that its id and attributes come out in.

#include "ops/base/check.h"
#include "ops/base/json.h"
#include "pipeline/jsonl.h"
#include "pipeline/result_json.h"
#include "tests/fuzz/fuzz.h"

static void check_tokens(struct jsonl_tokens tokens) {
    int64_t left = tokens.left, got = 0;
    int32_t token[7];
    while ((got = jsonl_tokens_next(&tokens, token, 7)) > 0) {
        for (int64_t i = 0; i < got; i++) {
            CHECK(token[i] >= 0);
        }
        left -= got;
    }
    CHECK(left == 0);
}

static void check_result(const struct jsonl_document *document) {
    const struct result_ids ids = {0};
    const struct document_score score = {
        .id = document->id,
        .id_bytes = document->id_bytes,
        .attributes = document->attributes,
        .attributes_bytes = document->attributes_bytes,
    };
    struct bytes out = {0};
    struct json json;
    CHECK(result_json_score(&score, &ids, &out) == STATUS_OK);
    json_open(&json, out.data, out.count);
    CHECK(json_skip(&json) && json_end(&json));
    CHECK(memchr(out.data, '\n', out.count) == NULL);
    bytes_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct jsonl jsonl;
    struct jsonl_document document;
    // A line holds no line end; what follows one is another line's.
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
    size_t length = end == NULL ? size : (size_t)(end - data);
    char *line = malloc(length > 0 ? length : 1);
    if (line == NULL) return 0;
    if (length > 0) memcpy(line, data, length);
    jsonl_open(&jsonl, "id", "text");
    if (jsonl_parse(&jsonl, line, length, &document)) {
        CHECK(document.id_bytes <= ID_BYTES_MOST);
        CHECK(document.id == NULL || utf8_valid(document.id, document.id_bytes));
        CHECK(document.text == NULL || utf8_valid(document.text, document.text_bytes));
        check_tokens(document.tokens);
        check_result(&document);
    } else {
        CHECK(jsonl.wrong[0] != '\0');
    }
    free(line);
    return 0;
}
