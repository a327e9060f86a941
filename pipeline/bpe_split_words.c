// GPT-2's pattern by hand: it looks ahead at most two characters, so that a piece of any length can
// be cut off bit by bit, and it is faster than an engine.
#include "pipeline/bpe_split.h"

#include <string.h>

static enum character_kind kind_at(const struct characters *characters, const char *text,
                                   size_t *bytes) {
    return (enum character_kind)(characters->of[character_at(text, bytes)] & CHARACTER_KIND);
}

// Where characters of this kind end, from `at` on.
static size_t run_end(const struct characters *characters, const char *text, size_t at,
                      size_t bytes, enum character_kind kind) {
    size_t length = 0;
    while (at < bytes && kind_at(characters, text + at, &length) == kind) {
        at += length;
    }
    return at;
}

static size_t start_of_last(const char *text, size_t end) {
    do {
        end--;
    } while (((unsigned char)text[end] & 0xC0) == 0x80);
    return end;
}

// Of the space that ends a run, \s+(?!\S) makes the beginning of what follows, if anything does.
// A single one is a piece all the same (\s+).
static struct piece spaces(const struct characters *characters, const char *text, size_t bytes,
                           bool last, bool fresh) {
    const size_t end = run_end(characters, text, 0, bytes, KIND_SPACE);
    if (end == 0) return (struct piece){.bytes = 0, .ends = true};
    if (end == bytes && last) return (struct piece){.bytes = end, .ends = true};
    const size_t held = start_of_last(text, end);
    if (end == bytes) return (struct piece){.bytes = held, .ends = false};
    return (struct piece){.bytes = fresh && held == 0 ? end : held, .ends = true};
}

// 's 't 're 've 'm 'll 'd. Bytes of it; 0: none; SIZE_MAX: more text will tell.
static size_t contraction(const char *text, size_t bytes, bool last) {
    static const char *const ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    bool open = false;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const size_t length = strlen(ends[i]), have = bytes - 1 < length ? bytes - 1 : length;
        if (memcmp(text + 1, ends[i], have) != 0) continue;
        if (have == length) return length + 1;
        open = true;
    }
    return open && !last ? SIZE_MAX : 0;
}

static const enum piece_run run_of[] = {[KIND_OTHER] = RUN_OTHERS,
                                        [KIND_LETTER] = RUN_LETTERS,
                                        [KIND_NUMBER] = RUN_NUMBERS,
                                        [KIND_SPACE] = RUN_SPACES};
static const enum character_kind kind_of[] = {[RUN_NONE] = KIND_OTHER,
                                              [RUN_OTHERS] = KIND_OTHER,
                                              [RUN_LETTERS] = KIND_LETTER,
                                              [RUN_NUMBERS] = KIND_NUMBER,
                                              [RUN_SPACES] = KIND_SPACE};

struct piece split_words(const struct characters *characters, const char *text, size_t bytes,
                         bool last, enum piece_run *run) {
    size_t at = 0, length = 0;
    if (*run == RUN_SPACES) return spaces(characters, text, bytes, last, false);
    if (*run != RUN_NONE) {
        at = run_end(characters, text, 0, bytes, kind_of[*run]);
        return (struct piece){.bytes = at, .ends = at < bytes || last};
    }
    if (text[0] == '\'') {
        const size_t found = contraction(text, bytes, last);
        if (found == SIZE_MAX) return (struct piece){.bytes = 0, .ends = false};
        if (found > 0) return (struct piece){.bytes = found, .ends = true};
    }
    enum character_kind kind = kind_at(characters, text, &length);
    if (text[0] == ' ' && bytes > 1) { // may lead any run
        const enum character_kind next = kind_at(characters, text + 1, &length);
        if (next != KIND_SPACE) {
            kind = next;
            at = 1;
        }
    }
    *run = run_of[kind];
    if (kind == KIND_SPACE) return spaces(characters, text, bytes, last, true);
    at = run_end(characters, text, at, bytes, kind);
    return (struct piece){.bytes = at, .ends = at < bytes || last};
}

enum status split_next(const struct split *split, const char *text, size_t bytes, bool last,
                       enum piece_run *run, struct piece *piece, const char **wrong) {
    if (split->pattern != NULL) {
        return split_pattern_next(split->pattern, text, bytes, last, piece, wrong);
    }
    *piece = split_words(split->characters, text, bytes, last, run);
    return STATUS_OK;
}
