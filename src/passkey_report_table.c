// The report on a terminal: lengths across, depths down, percents in coloured cells.

#include "src/passkey_report_inner.h"
#include "src/passkey_svg.h"

#include <inttypes.h>
#include <stdlib.h>

#define COLUMNS_MOST 80
#define ROWS_MOST    20 // more depths are shown as parts
#define LABEL        7
#define CELL_LEAST   6

struct table {
    const struct passkey_map *map;
    FILE *out;
    int width; // of a cell
    bool colours, many_colours;
};

static int colour_256(struct colour colour) {
    const int part[] = {colour.red, colour.green, colour.blue};
    int index = 16;
    for (int i = 0, weight = 36; i < 3; i++, weight /= 6) {
        const int level = part[i] < 48 ? 0 : part[i] < 115 ? 1 : (part[i] - 35) / 40;
        index += weight * level;
    }
    return index;
}

static void put_colour(const struct table *table, int what, struct colour colour) {
    if (table->many_colours) {
        fprintf(table->out, "\033[%d;2;%d;%d;%dm", what, colour.red, colour.green, colour.blue);
    } else {
        fprintf(table->out, "\033[%d;5;%dm", what, colour_256(colour));
    }
}

static void put_cell(const struct table *table, struct passkey_tally share) {
    if (share.n == 0) {
        fprintf(table->out, "%*s ", table->width - 1, "-");
        return;
    }
    if (table->colours) {
        const struct colour colour = colour_of(passkey_accuracy(share));
        put_colour(table, 48, colour);
        put_colour(table, 38, colour_upon(colour));
    }
    fprintf(table->out, "%*d ", table->width - 1, passkey_percent(share));
    if (table->colours) fputs("\033[0m", table->out);
}

static void put_line(const struct table *table, int64_t first, int64_t end, int64_t row) {
    for (int64_t column = first; column < end; column++) {
        put_cell(table, row < 0 ? table->map->column[column].tally
                                : passkey_map_cell(table->map, column, row));
    }
    fputc('\n', table->out);
}

static void put_block(const struct table *table, int64_t first, int64_t end) {
    fprintf(table->out, "%*s", LABEL, "depth ");
    for (int64_t column = first; column < end; column++) {
        char text[PASSKEY_LENGTH_TEXT];
        passkey_length_text(table->map->column[column].length, text);
        fprintf(table->out, "%*s ", table->width - 1, text);
    }
    fputc('\n', table->out);
    for (int64_t row = 0; row < table->map->rows; row++) {
        fprintf(table->out, "%*.3g%% ", LABEL - 2, 100 * table->map->depth[row]);
        put_line(table, first, end, row);
    }
    fprintf(table->out, "%*s", LABEL, "all ");
    put_line(table, first, end, -1);
}

static int width_of(const struct passkey_map *map) {
    int width = CELL_LEAST;
    for (int64_t column = 0; column < map->lengths; column++) {
        char text[PASSKEY_LENGTH_TEXT];
        passkey_length_text(map->column[column].length, text);
        const int wanted = (int)strlen(text) + 2;
        if (wanted > width) width = wanted;
    }
    return width;
}

enum status passkey_report_table(const struct passkey_report *report, bool colours, FILE *out) {
    struct passkey_map map;
    const char *terminal = getenv("COLORTERM");
    const bool many =
        terminal != NULL && (strcmp(terminal, "truecolor") == 0 || strcmp(terminal, "24bit") == 0);
    const enum status status = passkey_map_build(report, ROWS_MOST, &map);
    if (status == STATUS_OK && map.lengths > 0) {
        const struct table table = {&map, out, width_of(&map), colours, many};
        const int64_t across = (COLUMNS_MOST - LABEL) / table.width;
        for (int64_t first = 0; first < map.lengths; first += across) {
            const int64_t left = map.lengths - first;
            if (first > 0) fputc('\n', out);
            put_block(&table, first, first + (left < across ? left : across));
        }
    }
    passkey_map_free(&map);
    if (status != STATUS_OK) return status;
    return ferror(out) == 0 ? STATUS_OK : FAIL(IO, "cannot write the table");
}
