#include "src/passkey_report_html.h"

#include <math.h>
#include <stdio.h>

static const struct passkey_point nowhere = {(double)NAN, (double)NAN, (double)NAN};

static struct passkey_point point_of(struct passkey_tally tally) {
    const struct passkey_interval interval = passkey_wilson(tally);
    if (tally.n == 0) return nowhere;
    return (struct passkey_point){passkey_accuracy(tally), interval.low, interval.high};
}

static void put_chart(const struct passkey_chart *chart, const struct passkey_report *report,
                      const struct passkey_map *map, struct markup *out) {
    markup(out, "<div class=\"card\">\n");
    passkey_svg_chart(chart, report, map, out);
    markup(out, "</div>\n");
}

static void put_accuracy(const struct passkey_report *report, const struct passkey_map *map,
                         struct passkey_point *point, struct markup *out) {
    const struct passkey_line line = {.point = point};
    const struct passkey_chart chart = {
        .title = "Accuracy", .line = &line, .lines = 1, .shares = true, .low = 0, .high = 1};
    for (int64_t i = 0; i < map->lengths; i++) {
        point[i] = point_of(map->column[i].tally);
    }
    put_chart(&chart, report, map, out);
}

// From the shortest length on, so that each begins with all of a prompt; no more of them than there are
// shades: every second one, or fewer still.
static void put_last_k(const struct passkey_report *report, const struct passkey_map *map,
                       struct passkey_point *point, struct markup *out) {
    int64_t k[PASSKEY_KS_MOST];
    const int ks = passkey_last_ks(map, k);
    int first = 0;
    while (first < ks && k[first] < map->column[0].length) {
        first++;
    }
    const int every = (ks - first + PASSKEY_LINES_MOST - 1) / PASSKEY_LINES_MOST;
    struct passkey_line line[PASSKEY_LINES_MOST];
    char name[PASSKEY_LINES_MOST][PASSKEY_LENGTH_TEXT + 8];
    struct passkey_chart chart = {.title = "Accuracy for keys among the last k tokens",
                                  .line = line,
                                  .shares = true,
                                  .low = 0,
                                  .high = 1};
    for (int i = first; i < ks; i += every) {
        const int at = chart.lines++;
        char text[PASSKEY_LENGTH_TEXT];
        passkey_length_text(k[i], text);
        snprintf(name[at], sizeof name[at], "k = %s", text);
        line[at] = (struct passkey_line){name[at], point + at * map->lengths};
        for (int64_t column = 0; column < map->lengths; column++) {
            struct passkey_tally tally;
            struct passkey_point *to = &point[at * map->lengths + column];
            *to = passkey_last_k(map, k[i], column, &tally) ? point_of(tally) : nowhere;
            to->low = to->high = (double)NAN; // whiskers of several lines would hide each other
        }
    }
    if (chart.lines > 0) put_chart(&chart, report, map, out);
}

static void put_means(const struct passkey_report *report, const struct passkey_map *map,
                      struct passkey_point *point, struct markup *out) {
    const struct passkey_line line = {.point = point};
    struct passkey_chart chart = {
        .title = "NLL of the answer, mean in nats", .line = &line, .lines = 1};
    for (int64_t i = 0; i < map->lengths; i++) {
        point[i] = nowhere;
        point[i].value = map->column[i].answer_nll;
    }
    if (isfinite(map->all.answer_nll)) put_chart(&chart, report, map, out);
    chart.title = "Margin, median: below 0 another token was likelier";
    for (int64_t i = 0; i < map->lengths; i++) {
        point[i].value = map->column[i].margin;
    }
    if (isfinite(map->all.margin)) put_chart(&chart, report, map, out);
}

void passkey_html_charts(const struct passkey_report *report, const struct passkey_map *map,
                         struct markup *out) {
    const size_t room = (size_t)map->lengths * PASSKEY_LINES_MOST;
    struct passkey_point *point = calloc(room, sizeof *point);
    if (point == NULL) {
        out->status = FAIL(NO_MEMORY, "the charts of %lld lengths", (long long)map->lengths);
        return;
    }
    markup(out, "<section class=\"charts\">\n");
    put_accuracy(report, map, point, out);
    put_last_k(report, map, point, out);
    put_means(report, map, point, out);
    markup(out, "</section>\n");
    free(point);
}
