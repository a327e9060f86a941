// How fast text becomes tokens on one core: tokenizer_bench TOKENIZER.JSON TEXT [REPEATS]. Prints
// medians, and of the same bytes the time of memcpy and of counting words as wc does, for machines
// differ; all in the thread's own time. "cold" forgets the words between runs, by opening the tokenizer anew.

#include "pipeline/tokenizer.h"
#include "tests/bench/samples.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROOM 65536

// Of this thread: others may have the core for a while.
static int64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

struct text {
    char *data;
    size_t bytes;
};

static struct text read_text(const char *path) {
    struct text text = {0};
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) exit(2);
    text.bytes = (size_t)ftell(file);
    text.data = malloc(text.bytes + 1);
    rewind(file);
    if (text.data == NULL || fread(text.data, 1, text.bytes, file) != text.bytes) exit(2);
    fclose(file);
    return text;
}

static int64_t encode(struct tokenizer *tokenizer, const struct text *text) {
    static int32_t token[ROOM];
    int64_t tokens = 0;
    struct tokenizer_turn turn = {
        .text = text->data, .bytes = text->bytes, .ends = true, .token = token, .room = ROOM};
    tokenizer->begin(tokenizer);
    do {
        if (tokenizer->encode(tokenizer, &turn) != STATUS_OK) {
            fprintf(stderr, "%s\n", tokenizer->wrong);
            exit(1);
        }
        tokens += turn.tokens;
        turn.text += turn.used;
        turn.bytes -= turn.used;
    } while (!turn.done);
    return tokens;
}

static int64_t count_words(const struct text *text) {
    int64_t words = 0;
    bool inside = false;
    for (size_t i = 0; i < text->bytes; i++) {
        const bool space = isspace((unsigned char)text->data[i]) != 0;
        words += !space && !inside;
        inside = !space;
    }
    return words;
}

int main(int count, char **arguments) {
    if (count < 3) {
        fputs("tokenizer_bench TOKENIZER.JSON TEXT [REPEATS]\n", stderr);
        return 2;
    }
    const long repeats = count > 3 ? strtol(arguments[3], NULL, 10) : 7;
    const struct text text = read_text(arguments[2]);
    char *copy = malloc(text.bytes + 1);
    static struct samples warm, cold, copied, counted, opened;
    int64_t tokens = 0, words = 0;
    if (copy == NULL || repeats < 1 || repeats > SAMPLES_MOST) exit(2);
    for (long i = 0; i < repeats; i++) {
        struct tokenizer *tokenizer = NULL;
        int64_t start = cpu_ns();
        if (bpe_tokenizer_open(arguments[1], TEXT_STRICT, &tokenizer) != STATUS_OK) exit(1);
        samples_add(&opened, (double)(cpu_ns() - start));
        start = cpu_ns();
        tokens = encode(tokenizer, &text);
        samples_add(&cold, (double)(cpu_ns() - start));
        start = cpu_ns();
        encode(tokenizer, &text);
        samples_add(&warm, (double)(cpu_ns() - start));
        tokenizer->close(tokenizer);
        start = cpu_ns();
        memcpy(copy, text.data, text.bytes);
        samples_add(&copied, (double)(cpu_ns() - start));
        start = cpu_ns();
        words = count_words(&text);
        samples_add(&counted, (double)(cpu_ns() - start));
    }
    const double bytes = (double)text.bytes * 1e3; // ns to MB/s
    const double middle = samples_quantile(&warm, 0.5);
    printf("%zu bytes, %lld tokens, %lld words; medians of %ld\n", text.bytes, (long long)tokens,
           (long long)words, repeats);
    printf("open %.1f ms; cold %.1f MB/s; warm %.1f MB/s\n", samples_quantile(&opened, 0.5) / 1e6,
           bytes / samples_quantile(&cold, 0.5), bytes / middle);
    printf("memcpy %.0f MB/s, %.4f of its time; words %.0f MB/s, %.2f\n",
           bytes / samples_quantile(&copied, 0.5), samples_quantile(&copied, 0.5) / middle,
           bytes / samples_quantile(&counted, 0.5), samples_quantile(&counted, 0.5) / middle);
    free(copy);
    free(text.data);
    return 0;
}
