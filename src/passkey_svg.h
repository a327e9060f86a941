#pragma once
// Pictures as SVG, without scripts and without fonts of their own, and the markup they are made of.
// Attributes hold the colours of a light page, for programs that know nothing else; passkey_svg_style has
// those of a dark one, by class.

#include "src/passkey_report_inner.h"

// Text that grows. The first failure stays, and is looked at once, at the end.
struct markup {
    struct bytes out;
    enum status status;
};

__attribute__((format(printf, 2, 3))) void markup(struct markup *out, const char *format, ...);
// Any bytes as text or as the value of an attribute: UTF-8 and XML, whatever they are. Control
// characters become pictures of themselves.
void markup_text(struct markup *out, const char *text, size_t bytes);

struct colour {
    int red, green, blue;
};

// Dark red (0) over yellow to a bluish green (1). The ends differ in brightness and in blue too, so
// that they stay two for eyes that tell red and green apart badly.
struct colour colour_of(double share);
// Black or white, whichever reads better upon it.
struct colour colour_upon(struct colour colour);
double colour_contrast(struct colour a, struct colour b); // as WCAG 2 has it, 1 to 21

extern const char passkey_svg_style[]; // rules for a <style>
#define PASSKEY_FONT \
    "system-ui,-apple-system,&quot;Segoe UI&quot;,Roboto,Helvetica,Arial,sans-serif"

// The beginning of an <svg>; alone: of a file of its own, with its style and a background.
void passkey_svg_begin(struct markup *out, double width, double height, bool alone,
                       const char *title);

void passkey_svg_heat(const struct passkey_report *report, const struct passkey_map *map,
                      bool alone, struct markup *out);

// A value of one length, and what is uncertain of it; NaN: there is none.
struct passkey_point {
    double value, low, high;
};

struct passkey_line {
    const char *name;                  // as markup; NULL: the only line
    const struct passkey_point *point; // [lengths]
};

struct passkey_chart {
    const char *title; // as markup
    const struct passkey_line *line;
    int lines;
    bool shares;      // of 1, shown as percents
    double low, high; // of the axis; equal: as the values need
};

#define PASSKEY_LINES_MOST 10 // so many shades there are

// Nothing without lengths.
void passkey_svg_chart(const struct passkey_chart *chart, const struct passkey_report *report,
                       const struct passkey_map *map, struct markup *out);
