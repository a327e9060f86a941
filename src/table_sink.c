#include "src/table_sink.h"

#include "src/bar.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ID_COLUMNS 32

struct table_sink {
    struct sink base;
    FILE *out;
    int64_t handed; // pieces and scores so far; printed is as safe as it gets here
    int64_t rows, tokens, scored, text_bytes; // text_bytes -1: unknown of some
    double nll;
};

// The bytes of a character at `at`, or 0 if there is no well-formed one.
static size_t character_bytes(const char *id, size_t bytes, size_t at) {
    const unsigned char c = (unsigned char)id[at];
    const size_t need = c < 0x80   ? 1
                        : c < 0xc2 ? 0
                        : c < 0xe0 ? 2
                        : c < 0xf0 ? 3
                        : c < 0xf5 ? 4
                                   : 0;
    if (need == 0 || need > bytes - at) return 0;
    for (size_t i = 1; i < need; i++) {
        if (((unsigned char)id[at + i] & 0xc0) != 0x80) return 0;
    }
    return need;
}

static size_t count_characters(const char *id, size_t bytes) {
    size_t characters = 0;
    for (size_t at = 0; at < bytes; characters++) {
        const size_t step = character_bytes(id, bytes, at);
        at += step == 0 ? 1 : step;
    }
    return characters;
}

// The id in ID_COLUMNS places, its middle left out if it is longer. Control characters, which
// could play tricks on the terminal, and bytes that are no UTF-8 show as ?.
static void print_id(const char *id, size_t bytes, FILE *out) {
    const size_t characters = count_characters(id, bytes);
    const size_t head = 14;
    const size_t tail = ID_COLUMNS - head - 3;
    size_t index = 0;
    for (size_t at = 0; at < bytes; index++) {
        const size_t step = character_bytes(id, bytes, at);
        const bool control = step <= 1 && ((unsigned char)id[at] < 0x20 || id[at] == 0x7f);
        // U+0080 to U+009F are control characters too.
        const bool control_2 =
            step == 2 && (unsigned char)id[at] == 0xc2 && (unsigned char)id[at + 1] < 0xa0;
        const bool left_out = characters > ID_COLUMNS && index >= head && index < characters - tail;
        if (left_out) {
            if (index == head) fputs("...", out);
        } else if (step == 0 || control || control_2) {
            fputc('?', out);
        } else {
            fwrite(id + at, 1, step, out);
        }
        at += step == 0 ? 1 : step;
    }
    for (; characters < ID_COLUMNS && index < ID_COLUMNS; index++) {
        fputc(' ', out);
    }
}

static void print_head(FILE *out) {
    fprintf(out, "%-*s %12s %12s %12s %10s\n", ID_COLUMNS, "id", "tokens", "nll/token",
            "perplexity", "bits/byte");
}

static void print_numbers(int64_t tokens, int64_t scored, double nll, int64_t text_bytes,
                          FILE *out) {
    fprintf(out, " %12" PRId64, tokens);
    if (scored > 0) {
        const double each = nll / (double)scored;
        fprintf(out, " %12.4f %12.6g", each, exp(each));
    } else {
        fprintf(out, " %12s %12s", "-", "-");
    }
    if (scored > 0 && text_bytes > 0) {
        fprintf(out, " %10.4f\n", nll / log(2.0) / (double)text_bytes);
    } else {
        fprintf(out, " %10s\n", "-");
    }
}

static enum status table_sink_piece(struct sink *sink, const struct document_piece *piece) {
    struct table_sink *table = (struct table_sink *)sink;
    (void)piece; // a table has no room for arrays
    table->handed++;
    return STATUS_OK;
}

static enum status table_sink_retract(struct sink *sink, const struct retraction *retraction) {
    (void)retraction; // pieces have no place in the table
    ((struct table_sink *)sink)->handed++;
    return STATUS_OK;
}

static enum status table_sink_score(struct sink *sink, const struct document_score *score) {
    struct table_sink *table = (struct table_sink *)sink;
    bar_hide();
    if (table->rows == 0) print_head(table->out);
    print_id(score->id, score->id_bytes, table->out);
    print_numbers(score->tokens, score->scored, score->nll, score->text_bytes, table->out);
    const bool written = fflush(table->out) == 0;
    bar_show();
    table->handed++;
    table->rows++;
    table->tokens += score->tokens;
    table->scored += score->scored;
    table->nll += score->nll;
    if (score->text_bytes < 0) table->text_bytes = -1;
    if (table->text_bytes >= 0) table->text_bytes += score->text_bytes;
    return written ? STATUS_OK : FAIL(IO, "cannot write the table to standard output");
}

static enum status table_sink_finish(struct sink *sink, int32_t partition) {
    (void)sink, (void)partition;
    return STATUS_OK;
}

static enum status table_sink_confirmed(struct sink *sink, int64_t *count) {
    *count = ((struct table_sink *)sink)->handed;
    return STATUS_OK;
}

static enum status table_sink_close(struct sink *sink, bool complete) {
    struct table_sink *table = (struct table_sink *)sink;
    char label[64];
    if (table->rows > 0) {
        snprintf(label, sizeof label, "%" PRId64 " document%s%s", table->rows,
                 table->rows == 1 ? "" : "s", complete ? "" : " (incomplete)");
        bar_hide();
        fprintf(table->out, "%-*s", ID_COLUMNS, label);
        print_numbers(table->tokens, table->scored, table->nll, table->text_bytes, table->out);
        bar_show();
    }
    const bool written = fflush(table->out) == 0;
    free(table);
    return written ? STATUS_OK : FAIL(IO, "cannot write the table to standard output");
}

static const struct sink_table table_sink_table = {
    .name = "table",
    .piece = table_sink_piece,
    .score = table_sink_score,
    .retract = table_sink_retract,
    .finish = table_sink_finish,
    .confirmed = table_sink_confirmed,
    .close = table_sink_close,
};

enum status table_sink_open(FILE *out, struct sink **opened) {
    struct table_sink *table = calloc(1, sizeof *table);
    if (table == NULL) return FAIL(NO_MEMORY, "table");
    table->base.table = &table_sink_table;
    table->out = out;
    *opened = &table->base;
    return STATUS_OK;
}
