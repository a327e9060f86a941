#include "pipeline/bpe_words.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(sizeof(struct cached_word) == 64, "a cache line");

static uint32_t *whole_slot(const struct words *words, const char *text, size_t bytes) {
    const size_t mask = words->whole_room - 1;
    for (size_t i = XXH3_64bits(text, bytes) & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &words->whole[i];
        if (*slot == 0) return slot;
        const struct vocab_token *token = &words->vocab->token[*slot - 1];
        if (token->bytes == bytes && memcmp(token->text, text, bytes) == 0) return slot;
    }
}

static enum status open_whole(struct words *words) {
    const struct vocab *vocab = words->vocab;
    words->whole_room = 64;
    while (words->whole_room < 2 * (size_t)vocab->ids) {
        words->whole_room *= 2;
    }
    words->whole = calloc(words->whole_room, sizeof *words->whole);
    if (words->whole == NULL) return FAIL(NO_MEMORY, "a table of tokens");
    for (int32_t id = 0; id < vocab->ids; id++) {
        const struct vocab_token *token = &vocab->token[id];
        if (!token->of_merges) continue;
        *whole_slot(words, token->text, token->bytes) = (uint32_t)id + 1;
    }
    return STATUS_OK;
}

enum status words_open(const struct vocab *vocab, struct words *words) {
    words->vocab = vocab;
    words->whole = NULL;
    words->cached = aligned_alloc(64, CACHED_WORDS * sizeof *words->cached);
    if (words->cached == NULL) return FAIL(NO_MEMORY, "a cache of words");
    memset(words->cached, 0, CACHED_WORDS * sizeof *words->cached);
    return vocab->ignore_merges ? open_whole(words) : STATUS_OK;
}

void words_close(struct words *words) {
    free(words->cached);
    free(words->whole);
    words->cached = NULL;
    words->whole = NULL;
}

int32_t words_whole(const struct words *words, const char *text, size_t bytes) {
    return words->whole == NULL ? -1 : (int32_t)*whole_slot(words, text, bytes) - 1;
}

size_t words_merge(struct words *words, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        words->token[i] = words->vocab->byte[(unsigned char)text[i]];
    }
    return merges_run(&words->vocab->merges, words->token, words->rank, bytes);
}

static size_t encode(struct words *words, const char *text, size_t bytes) {
    const int32_t whole = words_whole(words, text, bytes);
    if (whole < 0) return words_merge(words, text, bytes);
    words->token[0] = whole;
    return 1;
}

static uint32_t hash_of(const char *text, size_t bytes) {
    uint64_t first = 0, last = 0;
    if (bytes >= 8) {
        memcpy(&first, text, 8);
        memcpy(&last, text + bytes - 8, 8);
        if (bytes > 16) {
            uint64_t middle;
            memcpy(&middle, text + bytes - 16, 8);
            first ^= middle * UINT64_C(0xC2B2AE3D27D4EB4F);
        }
    } else {
        for (size_t i = 0; i < bytes; i++) {
            first = first << 8 | (unsigned char)text[i];
        }
    }
    uint64_t hash = (first ^ (last << 7 | last >> 57)) * UINT64_C(0x9E3779B97F4A7C15) + bytes;
    hash ^= hash >> 29;
    return (uint32_t)((hash * UINT64_C(0x165667B19E3779F9)) >> 32);
}

enum status words_encode(struct words *words, const char *text, size_t bytes,
                         struct token_queue *out) {
    if (bytes > CACHED_BYTES) {
        const size_t tokens = encode(words, text, bytes);
        return token_queue_put(out, words->token, tokens);
    }
    const uint32_t hash = hash_of(text, bytes);
    struct cached_word *word = &words->cached[hash & (CACHED_WORDS - 1)];
    if (word->hash == hash && word->bytes == bytes && memcmp(word->text, text, bytes) == 0) {
        TRY(token_queue_room(out, CACHED_TOKENS));
        memcpy(out->token + out->count, word->token, sizeof word->token); // all: no loop
        out->count += word->tokens;
        return STATUS_OK;
    }
    const size_t tokens = encode(words, text, bytes);
    if (tokens <= CACHED_TOKENS) {
        word->hash = hash;
        word->bytes = (unsigned char)bytes;
        word->tokens = (unsigned char)tokens;
        memcpy(word->text, text, bytes);
        memcpy(word->token, words->token, tokens * sizeof *words->token);
    }
    return token_queue_put(out, words->token, tokens);
}
