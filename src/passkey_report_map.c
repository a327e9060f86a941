// The results by length and depth, and what is reckoned from counts.

#include "ops/base/check.h"
#include "src/passkey_report_inner.h"

#include <inttypes.h>
#include <math.h>

// The quantile of 97.5% of the normal distribution.
#define Z 1.959963984540054

static int compare_double(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void *make(int64_t count, size_t size) {
    return calloc((size_t)count + 1, size); // one more, so that none is not NULL
}

// Where each length's results begin; they are sorted.
static enum status find_lengths(const struct passkey_report *report, struct passkey_map *map) {
    const struct passkey_result *results = report->results;
    for (int64_t i = 0; i < report->count; i++) {
        if (i == 0 || results[i].sample.length != results[i - 1].sample.length) map->lengths++;
        CHECK(i == 0 || results[i].sample.length >= results[i - 1].sample.length);
    }
    map->column = make(map->lengths, sizeof *map->column);
    if (map->column == NULL) return FAIL(NO_MEMORY, "the lengths of a report");
    int64_t column = -1;
    for (int64_t i = 0; i < report->count; i++) {
        const int64_t length = results[i].sample.length;
        if (i == 0 || length != results[i - 1].sample.length) {
            map->column[++column] = (struct passkey_column){.length = length, .first = i};
        }
        map->column[column].tally.n++;
    }
    return STATUS_OK;
}

static enum status find_depths(const struct passkey_report *report, struct passkey_map *map) {
    map->depth = make(report->count + PASSKEY_PARTS, sizeof *map->depth);
    if (map->depth == NULL) return FAIL(NO_MEMORY, "the depths of a report");
    for (int64_t i = 0; i < report->count; i++) {
        map->depth[i] = report->results[i].sample.depth;
    }
    qsort(map->depth, (size_t)report->count, sizeof *map->depth, compare_double);
    for (int64_t i = 0; i < report->count; i++) {
        if (i > 0 && map->depth[i] <= map->depth[map->rows - 1]) continue;
        map->depth[map->rows++] = map->depth[i];
    }
    return STATUS_OK;
}

static void use_parts(struct passkey_map *map) {
    map->parts = true;
    map->rows = PASSKEY_PARTS;
    for (int i = 0; i < PASSKEY_PARTS; i++) {
        map->depth[i] = (i + 0.5) / PASSKEY_PARTS;
    }
}

static int64_t row_of(const struct passkey_map *map, double depth) {
    if (map->parts) {
        const int64_t part = (int64_t)(depth * PASSKEY_PARTS);
        return part < PASSKEY_PARTS ? part : PASSKEY_PARTS - 1;
    }
    const double *found =
        bsearch(&depth, map->depth, (size_t)map->rows, sizeof *map->depth, compare_double);
    return found - map->depth;
}

static enum status fill(const struct passkey_report *report, struct passkey_map *map) {
    free(map->cell);
    map->cell = make(map->lengths * map->rows, sizeof *map->cell);
    if (map->cell == NULL) return FAIL(NO_MEMORY, "the cells of a report");
    for (int64_t column = 0; column < map->lengths; column++) {
        const struct passkey_result *result = report->results + map->column[column].first;
        struct passkey_tally *cells = map->cell + column * map->rows;
        for (int64_t i = 0; i < map->column[column].tally.n; i++) {
            struct passkey_tally *cell = &cells[row_of(map, result[i].sample.depth)];
            cell->n++;
            cell->correct += result[i].correct;
        }
    }
    return STATUS_OK;
}

// Do at least half of the cells hold something? Otherwise lengths do not share their depths.
static bool filled(const struct passkey_map *map) {
    int64_t empty = 0;
    for (int64_t i = 0; i < map->lengths * map->rows; i++) {
        if (map->cell[i].n == 0) empty++;
    }
    return empty <= map->lengths * map->rows / 2;
}

static double median(double *values, int64_t count) {
    if (count == 0) return (double)NAN;
    qsort(values, (size_t)count, sizeof *values, compare_double);
    const double high = values[count / 2];
    return count % 2 == 1 ? high : values[count / 2 - 1] + (high - values[count / 2 - 1]) / 2;
}

// Of column->tally.n results; room for as many margins.
static void sum_up(const struct passkey_result *results, double *room,
                   struct passkey_column *column) {
    double sum = 0;
    int64_t finite = 0, margins = 0;
    for (int64_t i = 0; i < column->tally.n; i++) {
        column->tally.correct += results[i].correct;
        column->exact += results[i].exact;
        if (isfinite(results[i].answer_nll)) {
            sum += results[i].answer_nll;
            finite++;
        }
        if (isfinite(results[i].margin)) room[margins++] = results[i].margin;
    }
    column->answer_nll = finite > 0 ? sum / (double)finite : (double)NAN;
    column->margin = median(room, margins);
}

static enum status sum_up_all(const struct passkey_report *report, struct passkey_map *map) {
    double *room = make(report->count, sizeof *room);
    if (room == NULL) return FAIL(NO_MEMORY, "the margins of a report");
    for (int64_t i = 0; i < map->lengths; i++) {
        sum_up(report->results + map->column[i].first, room, &map->column[i]);
    }
    map->all.tally.n = report->count;
    sum_up(report->results, room, &map->all);
    free(room);
    return STATUS_OK;
}

enum status passkey_map_build(const struct passkey_report *report, int64_t rows_most,
                              struct passkey_map *map) {
    *map = (struct passkey_map){0};
    TRY(find_lengths(report, map));
    TRY(find_depths(report, map));
    // No more than two cells a result, or the parts: memory stays linear.
    if (map->rows > rows_most || map->rows * map->lengths > 2 * report->count) use_parts(map);
    TRY(fill(report, map));
    if (!map->parts && !filled(map)) {
        use_parts(map);
        TRY(fill(report, map));
    }
    return sum_up_all(report, map);
}

void passkey_map_free(struct passkey_map *map) {
    free(map->depth);
    free(map->cell);
    free(map->column);
    *map = (struct passkey_map){0};
}

struct passkey_tally passkey_map_cell(const struct passkey_map *map, int64_t column, int64_t row) {
    return map->cell[column * map->rows + row];
}

double passkey_accuracy(struct passkey_tally share) {
    return share.n > 0 ? (double)share.correct / (double)share.n : (double)NAN;
}

struct passkey_interval passkey_wilson(struct passkey_tally share) {
    if (share.n == 0) return (struct passkey_interval){0, 1};
    const double n = (double)share.n, p = passkey_accuracy(share);
    const double over = 1 + Z * Z / n, middle = (p + Z * Z / (2 * n)) / over;
    const double half = Z / over * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n));
    return (struct passkey_interval){share.correct == 0 ? 0 : middle - half,
                                     share.correct == share.n ? 1 : middle + half};
}

int passkey_percent(struct passkey_tally share) {
    const int percent = (int)lround(100 * passkey_accuracy(share));
    if (percent == 100 && share.correct < share.n) return 99;
    return percent == 0 && share.correct > 0 ? 1 : percent;
}

bool passkey_last_k(const struct passkey_map *map, int64_t k, int64_t column,
                    struct passkey_tally *share) {
    const int64_t length = map->column[column].length;
    *share = (struct passkey_tally){0};
    if (k > length) return false;
    const double rows = floor((double)k * (double)map->rows / (double)length);
    for (int64_t row = 0; row < map->rows; row++) {
        if (map->depth[row] < 1 - rows / (double)map->rows) continue;
        const struct passkey_tally cell = passkey_map_cell(map, column, row);
        share->n += cell.n;
        share->correct += cell.correct;
    }
    return rows >= 1 && share->n > 0;
}

int passkey_last_ks(const struct passkey_map *map, int64_t *k) {
    int count = 0;
    const int64_t longest = map->lengths > 0 ? map->column[map->lengths - 1].length : 0;
    for (int64_t tokens = 1; tokens <= longest / 2; tokens *= 2) {
        int64_t resolved = 0;
        for (int64_t column = 0; column < map->lengths; column++) {
            struct passkey_tally share;
            resolved += passkey_last_k(map, tokens, column, &share);
        }
        if (resolved >= (map->lengths > 1 ? 2 : 1)) k[count++] = tokens;
    }
    return count;
}

void passkey_length_text(int64_t length, char text[PASSKEY_LENGTH_TEXT]) {
    static const char units[] = "kmgt";
    int unit = -1;
    while (length >= 1024 && length % 1024 == 0 && unit < 3) {
        length /= 1024;
        unit++;
    }
    if (unit < 0) {
        snprintf(text, PASSKEY_LENGTH_TEXT, "%" PRId64, length);
    } else {
        snprintf(text, PASSKEY_LENGTH_TEXT, "%" PRId64 "%c", length, units[unit]);
    }
}

void passkey_count_text(int64_t count, char text[PASSKEY_COUNT_TEXT]) {
    char digits[PASSKEY_COUNT_TEXT];
    const int total = snprintf(digits, sizeof digits, "%" PRId64, count);
    int at = 0;
    for (int i = 0; i < total; i++) {
        if (i > 0 && digits[i - 1] != '-' && (total - i) % 3 == 0) text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
}
