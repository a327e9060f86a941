// Any bytes as a tokenizer.json: one that is taken gives tokens that come back as the text, the same
// however the text is cut. What follows a NUL in the input is tried as text too.

#include "pipeline/bpe_characters.h"
#include "pipeline/bpe_tokenizer.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#define ROOM 20000

struct encoded {
    int32_t token[ROOM];
    size_t count;
    enum status status;
};

static void check(bool condition) {
    if (!condition) abort();
}

// All of Unicode is asked for each tokenizer, which takes longer than all else: here, once. The linker
// puts the second in the place of the pipeline's, which is the first (--wrap).
enum status ask_unicode(struct characters **made) __asm__("__real_characters_make");
enum status copy_unicode(struct characters **made) __asm__("__wrap_characters_make");

enum status copy_unicode(struct characters **made) {
    static struct characters *once;
    if (once == NULL) check(ask_unicode(&once) == STATUS_OK);
    *made = malloc(sizeof **made);
    check(*made != NULL);
    memcpy(*made, once, sizeof **made);
    return STATUS_OK;
}

static void encode(struct tokenizer *tokenizer, const char *text, size_t bytes, size_t cut,
                   struct encoded *encoded) {
    encoded->count = 0;
    tokenizer->begin(tokenizer);
    for (bool done = false; !done && encoded->count < ROOM;) {
        const size_t some = bytes < cut ? bytes : cut;
        const size_t left = ROOM - encoded->count;
        struct tokenizer_turn turn = {.text = text,
                                      .bytes = some,
                                      .ends = some == bytes,
                                      .token = encoded->token + encoded->count,
                                      .room = (int64_t)(left < cut ? left : cut)};
        encoded->status = tokenizer->encode(tokenizer, &turn);
        if (encoded->status != STATUS_OK) return;
        check(turn.used <= some && turn.tokens <= turn.room);
        text += turn.used;
        bytes -= turn.used;
        encoded->count += (size_t)turn.tokens;
        done = turn.done;
    }
}

static void check_tokens(struct tokenizer *tokenizer, const struct encoded *encoded) {
    for (size_t i = 0; i < encoded->count; i++) {
        size_t bytes = 0;
        check(encoded->token[i] >= 0 && encoded->token[i] < tokenizer->vocab_size);
        check(tokenizer->bytes_of(tokenizer, encoded->token[i], &bytes) != NULL && bytes > 0);
    }
}

static void try_text(struct tokenizer *tokenizer, const char *text, size_t bytes) {
    static struct encoded whole, cut;
    encode(tokenizer, text, bytes, 4096, &whole);
    encode(tokenizer, text, bytes, 3, &cut);
    check(whole.status == cut.status);
    if (whole.status != STATUS_OK) return;
    check(whole.count == cut.count);
    check(memcmp(whole.token, cut.token, whole.count * sizeof *whole.token) == 0);
    check_tokens(tokenizer, &whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char hostile[] =
        "The don't 's  \t\n  12 a\xCC\x81\xCC\xA7 \xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8 <x> "
        "<|endoftext|>"
        "\xF0\x9F\x98\x80 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ababab \xC3\xA9\xE0\xA5\x98!!";
    const char *text = (const char *)data;
    const char *behind = size == 0 ? NULL : memchr(text, '\0', size);
    const size_t bytes = behind == NULL ? size : (size_t)(behind - text);
    struct tokenizer *tokenizer = NULL;
    char *json = calloc(bytes > 0 ? bytes : 1, 1); // nothing to spare behind it
    check(json != NULL);
    if (bytes > 0) memcpy(json, text, bytes);
    if (bpe_tokenizer_make("fuzz", json, bytes, TEXT_REPLACE, &tokenizer) == STATUS_OK) {
        try_text(tokenizer, hostile, sizeof hostile - 1);
        if (behind != NULL) try_text(tokenizer, behind + 1, size - bytes - 1);
        tokenizer->close(tokenizer);
    }
    free(json);
    return 0;
}
