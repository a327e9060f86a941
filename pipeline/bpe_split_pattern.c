// A pattern of the file's own, run by PCRE2. As long as more text may come, a match that has touched
// the text's end is partial and waits; one that has not is what the whole text would give.
#include "pipeline/bpe_split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MATCH_LIMIT 10000000 // steps of one match; the patterns in use need one or two a character
#define STACK_MOST  ((size_t)4 * 1024 * 1024) // bytes, of compiled code

struct split_pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    char wrong[160];
};

void split_pattern_close(struct split_pattern *pattern) {
    if (pattern == NULL) return;
    pcre2_jit_stack_free(pattern->stack);
    pcre2_match_context_free(pattern->context);
    pcre2_match_data_free(pattern->data);
    pcre2_code_free(pattern->code);
    free(pattern);
}

static enum status compile(const char *path, const char *text, struct split_pattern *pattern) {
    char message[120] = "";
    size_t at = 0;
    int error = 0;
    uint32_t empty = 0, behind = 0;
    const size_t bytes = strlen(text);
    char *translated = malloc(64 * bytes + 1);
    if (translated == NULL) return FAIL(NO_MEMORY, "a pattern");
    const char *wrong = pattern_translate(text, translated, &at);
    if (wrong == NULL) {
        pattern->code =
            pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, NULL);
    }
    free(translated);
    if (wrong != NULL) {
        return FAIL(MISMATCH, "%s: the pattern of pre_tokenizer: %s at its byte %zu: %.*s", path,
                    wrong, at, bytes - at < 40 ? (int)(bytes - at) : 40, text + at);
    }
    if (pattern->code == NULL) {
        pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
        return FAIL(MISMATCH, "%s: the pattern of pre_tokenizer does not compile: %s", path,
                    message);
    }
    pcre2_pattern_info(pattern->code, PCRE2_INFO_MATCHEMPTY, &empty);
    pcre2_pattern_info(pattern->code, PCRE2_INFO_MAXLOOKBEHIND, &behind);
    if (empty == 0 && behind == 0) return STATUS_OK;
    return FAIL(MISMATCH, "%s: the pattern of pre_tokenizer may %s, which is not supported", path,
                empty != 0 ? "match nothing" : "look back");
}

enum status split_pattern_open(const char *path, const char *text, struct split_pattern **opened) {
    struct split_pattern *pattern = calloc(1, sizeof *pattern);
    if (pattern == NULL) return FAIL(NO_MEMORY, "a pattern");
    const enum status status = compile(path, text, pattern);
    if (status != STATUS_OK) {
        split_pattern_close(pattern);
        return status;
    }
    // Without a just-in-time compiler it is slower and its matches are the same. Where it gives up is
    // not: compiled code counts fewer steps against MATCH_LIMIT, and has STACK_MOST instead of the heap.
    pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    pattern->data = pcre2_match_data_create_from_pattern(pattern->code, NULL);
    pattern->context = pcre2_match_context_create(NULL);
    pattern->stack = pcre2_jit_stack_create(32 * 1024, STACK_MOST, NULL);
    if (pattern->data == NULL || pattern->context == NULL) {
        split_pattern_close(pattern);
        return FAIL(NO_MEMORY, "a pattern");
    }
    pcre2_set_match_limit(pattern->context, MATCH_LIMIT);
    if (pattern->stack != NULL) pcre2_jit_stack_assign(pattern->context, NULL, pattern->stack);
    *opened = pattern;
    return STATUS_OK;
}

static enum status refuse(struct split_pattern *pattern, int error, const char **wrong) {
    char message[80] = "";
    pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
    snprintf(pattern->wrong, sizeof pattern->wrong,
             "the tokenizer's pattern does not come to an end: %s", message);
    *wrong = pattern->wrong;
    return STATUS_BAD_INPUT;
}

enum status split_pattern_next(struct split_pattern *pattern, const char *text, size_t bytes,
                               bool last, struct piece *piece, const char **wrong) {
    const bool full = bytes >= PATTERN_PIECE_MOST;
    *piece = (struct piece){0};
    if (full) { // the same whatever has been read ahead
        bytes = PATTERN_PIECE_MOST;
        while (((unsigned char)text[bytes - 1] & 0xC0) == 0x80) {
            bytes--;
        }
        bytes--; // before the character that may be cut
        last = false;
    }
    const uint32_t options = last ? PCRE2_NO_UTF_CHECK : PCRE2_NO_UTF_CHECK | PCRE2_PARTIAL_HARD;
    const int found = pcre2_match(pattern->code, (PCRE2_SPTR)text, bytes, 0, options, pattern->data,
                                  pattern->context);
    const size_t *place = pcre2_get_ovector_pointer(pattern->data);
    if (found >= 0) { // what no match takes is a piece too
        *piece = (struct piece){.bytes = place[0] > 0 ? place[0] : place[1], .ends = true};
        return STATUS_OK;
    }
    if (found != PCRE2_ERROR_NOMATCH && found != PCRE2_ERROR_PARTIAL) {
        if (found == PCRE2_ERROR_NOMEMORY) return FAIL(NO_MEMORY, "a match of a pattern");
        return refuse(pattern, found, wrong);
    }
    if (last) *piece = (struct piece){.bytes = bytes, .ends = true};
    if (!full) return STATUS_OK;
    _Static_assert(PATTERN_PIECE_MOST == 1048576, "said in words");
    *wrong = "a piece of more than 1048576 bytes without an end, by the tokenizer's own pattern";
    return STATUS_BAD_INPUT;
}
