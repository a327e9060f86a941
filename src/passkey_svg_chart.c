// Lines of values by length, on a logarithmic axis, with whiskers for what is uncertain.

#include "src/passkey_svg.h"

#include <inttypes.h>
#include <math.h>

#define WIDTH   520.0
#define HEIGHT  310.0
#define LEFT    58.0
#define TOP     52.0
#define BOTTOM  256.0
#define RIGHT   500.0
#define NAMES   84.0 // for what lines are called, where there are several
#define PADDING 18.0 // from the axis to the first length, and from the last to the end
#define TICKS   5

// Of a light page: one line alone, then several in order.
static const char *const shades[] = {"#2a6fdb", "#86c8d2", "#6ab6ca", "#4fa4c2",
                                     "#3f8fb7", "#337aac", "#2e659f", "#314f91",
                                     "#323a7f", "#2f2664", "#2b1248"};

struct plot {
    const struct passkey_chart *chart;
    const struct passkey_report *report;
    const struct passkey_map *map;
    struct markup *out;
    double right;           // of the plot
    double low, high, step; // of the values
};

static double x_of(const struct plot *plot, int64_t length) {
    const double first = log2((double)plot->map->column[0].length);
    const double last = log2((double)plot->map->column[plot->map->lengths - 1].length);
    const double wide = plot->right - LEFT - 2 * PADDING;
    if (last <= first) return LEFT + PADDING + wide / 2;
    return LEFT + PADDING + wide * (log2((double)length) - first) / (last - first);
}

static double y_of(const struct plot *plot, double value) {
    return BOTTOM - (BOTTOM - TOP) * (value - plot->low) / (plot->high - plot->low);
}

// The least of 1, 2 and 5 times a power of ten that makes few enough ticks of the range.
static double step_of(double range) {
    const double power = pow(10, floor(log10(range / TICKS)));
    const double steps[] = {1, 2, 5, 10};
    for (int i = 0; i < 3; i++) {
        if (range / (steps[i] * power) <= TICKS) return steps[i] * power;
    }
    return 10 * power;
}

// All values lie in it, and zero: bare lengths of lines then mean something.
static void range_of(struct plot *plot) {
    const struct passkey_chart *chart = plot->chart;
    plot->low = chart->low;
    plot->high = chart->high;
    if (chart->low < chart->high) {
        plot->step = (chart->high - chart->low) / 4;
        return;
    }
    for (int line = 0; line < chart->lines; line++) {
        for (int64_t i = 0; i < plot->map->lengths; i++) {
            const double value = chart->line[line].point[i].value;
            if (value < plot->low) plot->low = value;
            if (value > plot->high) plot->high = value;
        }
    }
    if (plot->high <= plot->low) plot->high = plot->low + 1;
    plot->step = step_of(plot->high - plot->low);
    plot->low = plot->step * floor(plot->low / plot->step);
    plot->high = plot->step * ceil(plot->high / plot->step);
}

static void put_value(const struct plot *plot, double value) {
    if (plot->chart->shares) {
        markup(plot->out, "%.4g%%", 100 * value);
    } else {
        markup(plot->out, "%.4g", value);
    }
}

static void put_axes(const struct plot *plot) {
    struct markup *out = plot->out;
    const int ticks = (int)lround((plot->high - plot->low) / plot->step);
    markup(out, "<g font-size=\"12\" text-anchor=\"end\">\n");
    for (int i = 0; i <= ticks; i++) {
        const double value = plot->low + plot->step * i, y = y_of(plot, value);
        markup(out, "<path class=\"rule\" d=\"M%.1f %.2fH%.1f\" stroke=\"#d8dee4\"/>", LEFT, y,
               plot->right);
        markup(out, "<text class=\"muted\" fill=\"#59636e\" x=\"%.1f\" y=\"%.2f\">", LEFT - 8,
               y + 4);
        put_value(plot, fabs(value) < plot->step * 1e-9 ? 0 : value);
        markup(out, "</text>\n");
    }
    markup(out, "</g>\n");
}

// As many as there is room for.
static void put_lengths(const struct plot *plot) {
    struct markup *out = plot->out;
    double free_from = 0;
    markup(out, "<g class=\"muted\" fill=\"#59636e\" font-size=\"12\" text-anchor=\"middle\">\n");
    for (int64_t i = 0; i < plot->map->lengths; i++) {
        const int64_t length = plot->map->column[i].length;
        const double x = x_of(plot, length);
        char text[PASSKEY_LENGTH_TEXT];
        passkey_length_text(length, text);
        const double half = 3.7 * (double)strlen(text);
        if (x - half < free_from) continue;
        markup(out, "<text x=\"%.2f\" y=\"%.1f\">%s</text>\n", x, BOTTOM + 20, text);
        free_from = x + half + 6;
    }
    markup(out, "<text x=\"%.2f\" y=\"%.1f\">tokens of the prompt</text>\n</g>\n",
           (LEFT + plot->right) / 2, BOTTOM + 44);
}

static void put_trained(const struct plot *plot) {
    const struct passkey_map *map = plot->map;
    const int64_t trained = plot->report->facts->trained_on;
    char text[PASSKEY_LENGTH_TEXT];
    if (trained < map->column[0].length || trained > map->column[map->lengths - 1].length) {
        return;
    }
    const double x = x_of(plot, trained);
    passkey_length_text(trained, text);
    markup(plot->out,
           "<path class=\"mark\" d=\"M%.2f %.1fV%.1f\" stroke=\"#1f2328\" stroke-width=\"1.25\" "
           "stroke-dasharray=\"4 4\"/><text class=\"ink\" fill=\"#1f2328\" font-size=\"11.5\" "
           "text-anchor=\"%s\" x=\"%.2f\" y=\"%.1f\">trained on %s</text>\n",
           x, TOP - 4, BOTTOM,
           x > plot->right - 50 ? "end"
           : x < LEFT + 50      ? "start"
                                : "middle",
           x, TOP - 9, text);
}

static void put_path(const struct plot *plot, const struct passkey_point *point) {
    bool drawn = false; // up to the point before
    markup(plot->out, "<path fill=\"none\" stroke-width=\"2\" stroke-linejoin=\"round\" d=\"");
    for (int64_t i = 0; i < plot->map->lengths; i++) {
        const bool there = isfinite(point[i].value);
        if (there) {
            markup(plot->out, "%s%.2f %.2f", drawn ? "L" : "M",
                   x_of(plot, plot->map->column[i].length), y_of(plot, point[i].value));
        }
        drawn = there;
    }
    markup(plot->out, "\"/>\n");
}

static void put_point(const struct plot *plot, const struct passkey_line *line, int64_t i) {
    const struct passkey_point point = line->point[i];
    const int64_t length = plot->map->column[i].length;
    const double x = x_of(plot, length), y = y_of(plot, point.value);
    struct markup *out = plot->out;
    if (!isfinite(point.value)) return;
    markup(out, "<g><title>");
    if (line->name != NULL) markup(out, "%s, ", line->name);
    markup(out, "%" PRId64 " tokens: ", length);
    put_value(plot, point.value);
    if (isfinite(point.low)) {
        const double low = y_of(plot, point.low), high = y_of(plot, point.high);
        markup(out, " (");
        put_value(plot, point.low);
        markup(out, " to ");
        put_value(plot, point.high);
        markup(out,
               ")</title><path d=\"M%.2f %.2fV%.2fm-4 0h8M%.2f %.2fh8\" fill=\"none\" "
               "stroke-width=\"1.25\"/>",
               x, low, high, x - 4, low);
    } else {
        markup(out, "</title>");
    }
    markup(out, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"%s\" stroke=\"none\"/></g>\n", x, y,
           plot->map->lengths > 20 ? "2.5" : "4");
}

static void put_lines(const struct plot *plot) {
    const struct passkey_chart *chart = plot->chart;
    const bool alone = chart->lines == 1 && chart->line[0].name == NULL;
    for (int i = 0; i < chart->lines; i++) {
        // The whole range of shades, however few lines there are; the first is for one alone.
        const int shade = alone ? 0
                          : chart->lines == 1
                              ? PASSKEY_LINES_MOST
                              : 1 + i * (PASSKEY_LINES_MOST - 1) / (chart->lines - 1);
        markup(plot->out, "<g class=\"shade%d\" fill=\"%s\" stroke=\"%s\">\n", shade, shades[shade],
               shades[shade]);
        put_path(plot, chart->line[i].point);
        for (int64_t column = 0; column < plot->map->lengths; column++) {
            put_point(plot, &chart->line[i], column);
        }
        const double y = TOP + 6 + 20.0 * (chart->lines - 1 - i);
        if (!alone) {
            markup(plot->out, "<path d=\"M%.1f %.1fh18\" stroke-width=\"3\"/>\n", plot->right + 14,
                   y);
        }
        markup(plot->out, "</g>\n");
        if (alone) continue;
        markup(plot->out,
               "<text class=\"ink\" fill=\"#1f2328\" font-size=\"12\" x=\"%.1f\" y=\"%.1f\">%s"
               "</text>\n",
               plot->right + 38, y + 4, chart->line[i].name);
    }
}

void passkey_svg_chart(const struct passkey_chart *chart, const struct passkey_report *report,
                       const struct passkey_map *map, struct markup *out) {
    const bool names = chart->lines > 0 && chart->line[0].name != NULL;
    struct plot plot = {chart, report, map, out, names ? RIGHT - NAMES : RIGHT, 0, 0, 0};
    if (map->lengths == 0) return;
    range_of(&plot);
    passkey_svg_begin(out, WIDTH, HEIGHT, false, chart->title);
    markup(out,
           "<text class=\"ink\" fill=\"#1f2328\" font-size=\"15\" font-weight=\"700\" x=\"8\" "
           "y=\"22\">%s</text>\n",
           chart->title);
    put_axes(&plot);
    put_lengths(&plot);
    put_trained(&plot);
    put_lines(&plot);
    markup(out, "</svg>\n");
}
