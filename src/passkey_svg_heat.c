// The heat map: a column a length, a row a depth with the prompt's beginning at the top, and under them
// all depths together. Cells shrink as they become many; their numbers go when they cannot be read.

#include "src/passkey_svg.h"

#include <inttypes.h>
#include <math.h>

#define LEFT         84.0
#define RIGHT        104.0
#define TOP          44.0 // before the plot
#define TITLES       60.0 // before that, in a file of its own
#define CELL_WIDE    80.0
#define CELL_LEAST   14.0
#define CELL_HIGH    56.0
#define WIDE_LEAST   452.0 // of the plot
#define ALL_WIDE     720.0 // that many columns share, if cells allow it
#define ALL_HIGH     400.0
#define LEGEND_LEAST 120.0
#define LETTER       0.56 // of a font's size: how wide a letter is, about
#define LETTER_BOLD  0.64

struct heat {
    const struct passkey_report *report;
    const struct passkey_map *map;
    struct markup *out;
    double cell_wide, cell_high; // with the gap between them
    double top, wide, high;      // of the plot
    double strip, strip_high;    // where the row of all depths begins
    double labels_high;          // of the lengths below
    bool upright;                // they are
    double width, height;        // of the picture
};

static double at_least(double value, double least) {
    return value < least ? least : value;
}

static double at_most(double value, double most) {
    return value > most ? most : value;
}

static size_t longest_label(const struct passkey_map *map) {
    size_t longest = 0;
    for (int64_t i = 0; i < map->lengths; i++) {
        char text[PASSKEY_LENGTH_TEXT];
        passkey_length_text(map->column[i].length, text);
        if (strlen(text) > longest) longest = strlen(text);
    }
    return longest;
}

static struct heat lay_out(const struct passkey_report *report, const struct passkey_map *map,
                           bool alone, struct markup *out) {
    struct heat heat = {.report = report, .map = map, .out = out};
    const double label = 13 * LETTER * (double)longest_label(map);
    heat.cell_wide = at_most(ALL_WIDE / (double)map->lengths, CELL_WIDE);
    heat.cell_wide = at_least(heat.cell_wide, WIDE_LEAST / (double)map->lengths);
    heat.cell_wide = at_least(heat.cell_wide, CELL_LEAST);
    heat.cell_high = at_least(at_most(ALL_HIGH / (double)map->rows, CELL_HIGH), 5);
    heat.wide = heat.cell_wide * (double)map->lengths;
    heat.high = heat.cell_high * (double)map->rows;
    heat.top = alone ? TITLES + TOP : TOP;
    heat.strip = heat.top + heat.high + 10;
    heat.strip_high = at_least(at_most(heat.cell_high, 40), 20);
    heat.upright = label + 8 > heat.cell_wide;
    heat.labels_high = heat.upright ? label + 8 : 14;
    heat.width = LEFT + heat.wide + RIGHT;
    heat.height =
        at_least(heat.strip + heat.strip_high, heat.top + LEGEND_LEAST) + heat.labels_high + 50;
    return heat;
}

static double column_at(const struct heat *heat, int64_t column) {
    return LEFT + heat->cell_wide * (double)column;
}

// How the tooltip begins: which samples these are.
static void put_which(const struct heat *heat, int64_t column, int64_t row) {
    const struct passkey_map *map = heat->map;
    markup(heat->out, "%" PRId64 " tokens, ", map->column[column].length);
    if (row < 0) {
        markup(heat->out, "all depths: ");
    } else if (map->parts) {
        markup(heat->out, "depths %.3g%% to %.3g%%: ", 100.0 * (double)row / (double)map->rows,
               100.0 * (double)(row + 1) / (double)map->rows);
    } else {
        markup(heat->out, "depth %.3g%%: ", 100 * map->depth[row]);
    }
}

static void put_cell(const struct heat *heat, int64_t column, int64_t row,
                     struct passkey_tally share) {
    const bool strip = row < 0;
    const double high = strip ? heat->strip_high : heat->cell_high;
    const double y = strip ? heat->strip : heat->top + heat->cell_high * (double)row;
    const double x = column_at(heat, column);
    const double least = at_most(high, heat->cell_wide);
    const double gap = least >= 20 ? 1 : least >= 10 ? 0.5 : 0;
    const double size = at_most(at_most(15, high * 0.46), (heat->cell_wide - 4) / (3 * LETTER));
    struct markup *out = heat->out;
    markup(out, "<g><title>");
    put_which(heat, column, row);
    if (share.n == 0) {
        markup(out,
               "no samples</title><rect class=\"none\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" "
               "height=\"%.2f\" rx=\"%.1f\" fill=\"#f4f6f8\" stroke=\"#c4ccd4\" "
               "stroke-dasharray=\"3 3\"/></g>\n",
               x + gap + 0.5, y + gap + 0.5, heat->cell_wide - 2 * gap - 1, high - 2 * gap - 1,
               3 * gap);
        return;
    }
    const struct passkey_interval interval = passkey_wilson(share);
    const struct colour fill = colour_of(passkey_accuracy(share)), ink = colour_upon(fill);
    markup(out, "%" PRId64 " of %" PRId64 " correct, %.1f%% (%.1f%% to %.1f%%)</title>",
           share.correct, share.n, 100 * passkey_accuracy(share), 100 * interval.low,
           100 * interval.high);
    markup(out,
           "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" rx=\"%.1f\" "
           "fill=\"#%02x%02x%02x\"/>",
           x + gap, y + gap, heat->cell_wide - 2 * gap, high - 2 * gap, 3 * gap, fill.red,
           fill.green, fill.blue);
    if (size >= 7.5) {
        markup(out,
               "<text x=\"%.2f\" y=\"%.2f\" text-anchor=\"middle\" font-size=\"%.1f\"%s "
               "fill=\"#%02x%02x%02x\">%d</text>",
               x + heat->cell_wide / 2, y + high / 2 + size * 0.36, size,
               strip ? " font-weight=\"700\"" : "", ink.red, ink.green, ink.blue,
               passkey_percent(share));
    }
    markup(out, "</g>\n");
}

static void put_cells(const struct heat *heat) {
    const double least = at_most(heat->cell_high, heat->cell_wide);
    markup(heat->out, "<g%s>\n", least < 10 ? " shape-rendering=\"crispEdges\"" : "");
    for (int64_t column = 0; column < heat->map->lengths; column++) {
        for (int64_t row = 0; row < heat->map->rows; row++) {
            put_cell(heat, column, row, passkey_map_cell(heat->map, column, row));
        }
        put_cell(heat, column, -1, heat->map->column[column].tally);
    }
    markup(heat->out, "</g>\n");
}

static void put_depths(const struct heat *heat) {
    const int64_t every = heat->cell_high >= 17 ? 1 : heat->cell_high >= 8.5 ? 2 : 5;
    struct markup *out = heat->out;
    markup(out, "<g class=\"ink\" fill=\"#1f2328\" font-size=\"13\" text-anchor=\"end\">\n");
    for (int64_t row = 0; row < heat->map->rows; row += every) {
        markup(out, "<text x=\"%.1f\" y=\"%.2f\">%.3g%%</text>\n", LEFT - 10,
               heat->top + heat->cell_high * ((double)row + 0.5) + 4.5,
               100 * heat->map->depth[row]);
    }
    markup(out, "<text x=\"%.1f\" y=\"%.2f\" font-weight=\"700\">all</text>\n</g>\n", LEFT - 10,
           heat->strip + heat->strip_high / 2 + 4.5);
    markup(out,
           "<text class=\"muted\" fill=\"#59636e\" font-size=\"13\" text-anchor=\"middle\" "
           "transform=\"translate(20 %.1f) rotate(-90)\">depth of the key</text>\n",
           heat->top + at_least(heat->high, 96) / 2);
}

static void put_lengths(const struct heat *heat) {
    struct markup *out = heat->out;
    const double y = heat->strip + heat->strip_high;
    markup(out, "<g class=\"ink\" fill=\"#1f2328\" font-size=\"13\" text-anchor=\"%s\">\n",
           heat->upright ? "end" : "middle");
    for (int64_t column = 0; column < heat->map->lengths; column++) {
        const double x = column_at(heat, column) + heat->cell_wide / 2;
        char text[PASSKEY_LENGTH_TEXT];
        passkey_length_text(heat->map->column[column].length, text);
        if (heat->upright) {
            markup(out, "<text transform=\"translate(%.2f %.2f) rotate(-90)\">%s</text>\n", x + 4.5,
                   y + 8, text);
        } else {
            markup(out, "<text x=\"%.2f\" y=\"%.2f\">%s</text>\n", x, y + 20, text);
        }
    }
    markup(out,
           "</g>\n<text class=\"muted\" fill=\"#59636e\" font-size=\"13\" text-anchor=\"middle\" "
           "x=\"%.2f\" y=\"%.2f\">tokens of the prompt</text>\n",
           LEFT + heat->wide / 2, y + heat->labels_high + 30);
}

// Between the longest length that is no longer than those of the training, and the next.
static void put_trained(const struct heat *heat) {
    const int64_t trained = heat->report->facts->trained_on, lengths = heat->map->lengths;
    struct markup *out = heat->out;
    char text[PASSKEY_LENGTH_TEXT];
    int64_t column = 0;
    if (trained <= 0) return;
    while (column < lengths && heat->map->column[column].length <= trained) {
        column++;
    }
    const double x = column_at(heat, column), end = heat->strip + heat->strip_high + 4;
    passkey_length_text(trained, text);
    markup(out, "<g><title>lengths up to %" PRId64 " tokens were seen in training</title>\n",
           trained);
    markup(out,
           "<path class=\"halo\" d=\"M%.2f %.1fV%.2f\" stroke=\"#ffffff\" "
           "stroke-width=\"5\"/>\n",
           x, heat->top - 8, end);
    markup(out,
           "<path class=\"mark\" d=\"M%.2f %.1fV%.2f\" stroke=\"#1f2328\" "
           "stroke-width=\"1.75\" stroke-dasharray=\"5 4\"/>\n",
           x, heat->top - 8, end);
    markup(out,
           "<text class=\"ink\" fill=\"#1f2328\" font-size=\"12.5\" font-weight=\"600\" "
           "text-anchor=\"%s\" x=\"%.2f\" y=\"%.1f\">trained on %s</text></g>\n",
           column == 0         ? "start"
           : column == lengths ? "end"
                               : "middle",
           x, heat->top - 14, text);
}

static void put_legend(const struct heat *heat) {
    const double x = LEFT + heat->wide + 30, high = at_least(heat->high, LEGEND_LEAST - 10);
    struct markup *out = heat->out;
    markup(out, "<defs><linearGradient id=\"passkey-scale\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"1\">");
    for (int i = 0; i <= 16; i++) {
        const struct colour colour = colour_of(1 - i / 16.0);
        markup(out, "<stop offset=\"%g\" stop-color=\"#%02x%02x%02x\"/>", i / 16.0, colour.red,
               colour.green, colour.blue);
    }
    markup(out,
           "</linearGradient></defs>\n<rect x=\"%.2f\" y=\"%.1f\" width=\"14\" height=\"%.2f\" "
           "rx=\"3\" fill=\"url(#passkey-scale)\"/>\n",
           x, heat->top, high);
    markup(out, "<g class=\"muted\" fill=\"#59636e\" font-size=\"12\">\n");
    for (int i = 0; i <= 4; i++) {
        markup(out, "<text x=\"%.2f\" y=\"%.2f\">%d%%</text>\n", x + 21,
               heat->top + 4.5 + high * (4 - i) / 4 +
                   (i == 4   ? 4
                    : i == 0 ? -4
                             : 0),
               25 * i);
    }
    markup(out, "<text x=\"%.2f\" y=\"%.2f\">correct</text>\n</g>\n", x, heat->top - 14);
}

// The end of a path says more than its beginning.
static void put_name(const struct heat *heat) {
    const char *name = heat->report->facts->model_name;
    const size_t most = (size_t)((heat->width - 48) / (20 * LETTER_BOLD));
    size_t bytes = name == NULL ? 0 : strlen(name), first = 0;
    if (bytes > most) {
        first = bytes - most;
        while (first < bytes && ((unsigned char)name[first] & 0xc0) == 0x80) {
            first++;
        }
        markup(heat->out, "\xe2\x80\xa6");
    }
    if (bytes > 0) markup_text(heat->out, name + first, bytes - first);
}

static void put_titles(const struct heat *heat) {
    const struct passkey_tally all = heat->map->all.tally;
    const struct passkey_interval interval = passkey_wilson(all);
    struct markup *out = heat->out;
    char count[PASSKEY_COUNT_TEXT];
    markup(out,
           "<text class=\"ink\" fill=\"#1f2328\" font-size=\"20\" font-weight=\"700\" x=\"24\" "
           "y=\"38\">");
    put_name(heat);
    markup(out, "</text>\n<text class=\"muted\" fill=\"#59636e\" font-size=\"13.5\" x=\"24\" "
                "y=\"61\">Passkey retrieval: ");
    if (all.n == 0) {
        markup(out, "no samples</text>\n");
        return;
    }
    passkey_count_text(all.n, count);
    markup(out, "%.1f%% of %s %s correct (95%% interval %.1f%% to %.1f%%)</text>\n",
           100 * passkey_accuracy(all), count, all.n == 1 ? "sample" : "samples",
           100 * interval.low, 100 * interval.high);
}

void passkey_svg_heat(const struct passkey_report *report, const struct passkey_map *map,
                      bool alone, struct markup *out) {
    const struct heat heat = lay_out(report, map, alone, out);
    passkey_svg_begin(out, heat.width, heat.height, alone, "Passkey retrieval by length and depth");
    if (alone) put_titles(&heat);
    put_cells(&heat);
    put_depths(&heat);
    put_lengths(&heat);
    put_trained(&heat);
    put_legend(&heat);
    markup(out, "</svg>\n");
}
