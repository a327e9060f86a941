#include "src/verify_tokens.h"

#include "src/tokenizer_choice.h"

#include <inttypes.h>
#include <string.h>

static const char sample[] =
    "A document longer than one rank's share is cut into spans in rank order. At every layer the "
    "recurrent state at a span's end is handed to the next rank, so that a text of many million "
    "words is scored in parallel, exactly, and in bounded memory. Short documents are packed; "
    "many streams interleave; nothing is padded. How much of what stood at the beginning does a "
    "state of a few megabytes still hold at the end? Nobody knows before it was measured: 3 of 10 "
    "numbers after 1,000 words, 1 of 10 after 16,000, and then, at once, all of them again.\n";

static bool ends_with(const char *text, const char *end) {
    const size_t bytes = strlen(text), tail = strlen(end);
    return bytes >= tail && strcmp(text + bytes - tail, end) == 0;
}

static int64_t take_ids(const struct mapped_file *input, size_t width, int32_t *token) {
    const unsigned char *bytes = (const unsigned char *)input->bytes;
    int64_t tokens = 0;
    for (size_t at = 0; at + width <= input->size && tokens < VERIFY_TOKENS; at += width) {
        uint32_t id = 0; // little-endian
        for (size_t i = 0; i < width; i++) {
            id |= (uint32_t)bytes[at + i] << (8 * i);
        }
        token[tokens++] = id > INT32_MAX ? INT32_MAX : (int32_t)id; // no model has that many
    }
    return tokens;
}

static enum status take_text(const struct settings *settings, int64_t vocab_size,
                             const struct mapped_file *input, int32_t *token, int64_t *tokens) {
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_turn turn = {.text = (const char *)input->bytes,
                                  .bytes = input->size,
                                  .ends = true,
                                  .token = token,
                                  .room = VERIFY_TOKENS};
    TRY(tokenizer_for_text(settings, vocab_size, &tokenizer));
    tokenizer->begin(tokenizer);
    enum status status = tokenizer->encode(tokenizer, &turn);
    if (status == STATUS_BAD_INPUT) {
        LOG(ERROR, "--input %s: %s", settings->input, tokenizer->wrong);
    }
    tokenizer->close(tokenizer);
    *tokens = turn.tokens;
    return status;
}

static enum status take_file(const struct settings *settings, int64_t vocab_size,
                             const struct mapped_file *input, int32_t *token, int64_t *tokens) {
    const char *path = settings->input;
    const size_t width = ends_with(path, ".u16") ? 2 : ends_with(path, ".u32") ? 4 : 0;
    if (width == 0) TRY(take_text(settings, vocab_size, input, token, tokens));
    if (width > 0) *tokens = take_ids(input, width, token);
    for (int64_t i = 0; i < *tokens; i++) {
        if (token[i] < vocab_size) continue;
        return FAIL(USAGE, "--input %s: token %" PRId32 " is not in [0, %" PRId64 ")", path,
                    token[i], vocab_size);
    }
    if (*tokens < 2) return FAIL(USAGE, "--input %s: fewer than two tokens", path);
    return STATUS_OK;
}

// The sample again and again, each time with another letter for e; without a text, random ids.
static void draw(uint64_t random, int64_t vocab_size, int32_t *token) {
    const size_t period = sizeof sample - 1;
    for (size_t i = 0; i < VERIFY_TOKENS; i++) {
        const unsigned char letter = (unsigned char)sample[i % period];
        const unsigned char other =
            letter == 'e' ? (unsigned char)("eaiou"[i / period % 5]) : letter;
        random = random * 6364136223846793005U + 1442695040888963407U;
        token[i] = vocab_size == 256 ? other : (int32_t)((random >> 33) % (uint64_t)vocab_size);
    }
}

enum status verify_tokens(const struct settings *settings, int64_t vocab_size,
                          const struct mapped_file *input, int32_t *token, int64_t *tokens) {
    if (settings->input != NULL) return take_file(settings, vocab_size, input, token, tokens);
    draw((uint64_t)settings->seed, vocab_size, token);
    *tokens = VERIFY_TOKENS;
    return STATUS_OK;
}
