#include "src/passkey_svg.h"

#include "ops/base/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

const char passkey_svg_style[] =
    ".passkey text{font-variant-numeric:tabular-nums}"
    "@media (prefers-color-scheme:dark){"
    ".passkey .surface{fill:#15191f}.passkey .ink{fill:#e6edf3}.passkey .muted{fill:#9aa4af}"
    ".passkey .rule{stroke:#2c333c}.passkey .mark{stroke:#e6edf3}.passkey .halo{stroke:#15191f}"
    ".passkey .none{fill:#1c2128;stroke:#444c56}"
    ".passkey .shade0{stroke:#6cb0ff;fill:#6cb0ff}.passkey .shade1{stroke:#2f6d8f;fill:#2f6d8f}"
    ".passkey .shade2{stroke:#387fa1;fill:#387fa1}.passkey .shade3{stroke:#4291b3;fill:#4291b3}"
    ".passkey .shade4{stroke:#53a3c1;fill:#53a3c1}.passkey .shade5{stroke:#68b5ce;fill:#68b5ce}"
    ".passkey .shade6{stroke:#80c6d9;fill:#80c6d9}.passkey .shade7{stroke:#9dd5e3;fill:#9dd5e3}"
    ".passkey .shade8{stroke:#b9e3ec;fill:#b9e3ec}.passkey .shade9{stroke:#d7f0f5;fill:#d7f0f5}"
    ".passkey .shade10{stroke:#f4fcfd;fill:#f4fcfd}"
    "}";

void markup(struct markup *out, const char *format, ...) {
    va_list arguments, again;
    if (out->status != STATUS_OK) return;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int bytes = vsnprintf(NULL, 0, format, arguments);
    out->status = bytes_room(&out->out, (size_t)bytes + 1);
    if (out->status == STATUS_OK) {
        vsnprintf(out->out.data + out->out.count, (size_t)bytes + 1, format, again);
        out->out.count += (size_t)bytes;
    }
    va_end(again);
    va_end(arguments);
}

static const char *entity(char c) {
    switch (c) {
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '&': return "&amp;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

// U+FFFE and U+FFFF, which are no characters, and the control characters of Latin-1.
static bool forbidden(const char *text, size_t bytes) {
    if (bytes == 3)
        return memcmp(text, "\xef\xbf\xbe", 3) == 0 || memcmp(text, "\xef\xbf\xbf", 3) == 0;
    return bytes == 2 && text[0] == '\xc2' && (unsigned char)text[1] < 0xa0;
}

void markup_text(struct markup *out, const char *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        const unsigned char c = (unsigned char)text[at];
        const size_t step = utf8_sequence(text + at, bytes - at);
        if (step == 0 || forbidden(text + at, step)) {
            markup(out, "\xef\xbf\xbd");
        } else if (c < 0x20) {
            markup(out, "\xe2\x90%c", 0x80 + c); // U+2400 and on
        } else if (c == 0x7f) {
            markup(out, "\xe2\x90\xa1");
        } else if (entity(text[at]) != NULL) {
            markup(out, "%s", entity(text[at]));
        } else {
            markup(out, "%.*s", (int)step, text + at);
        }
        at += step == 0 ? 1 : step;
    }
}

struct colour colour_of(double share) {
    static const struct colour stops[] = {
        {138, 16,  46 },
        {190, 44,  54 },
        {224, 92,  70 },
        {244, 158, 98 },
        {250, 221, 140},
        {208, 224, 140},
        {142, 207, 144},
        {82,  188, 144},
        {24,  164, 138},
    };
    const int last = (int)(sizeof stops / sizeof stops[0]) - 1;
    const double place = share <= 0 ? 0 : share >= 1 ? last : share * last;
    const int low = place >= last ? last - 1 : (int)place;
    const double part = place - low;
    const struct colour a = stops[low], b = stops[low + 1];
    return (struct colour){(int)lround(a.red + part * (b.red - a.red)),
                           (int)lround(a.green + part * (b.green - a.green)),
                           (int)lround(a.blue + part * (b.blue - a.blue))};
}

// Brightness as WCAG 2 has it.
static double brightness(struct colour colour) {
    static const double weights[] = {0.2126, 0.7152, 0.0722};
    const int parts[] = {colour.red, colour.green, colour.blue};
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        const double c = parts[i] / 255.0;
        sum += weights[i] * (c <= 0.04045 ? c / 12.92 : pow((c + 0.055) / 1.055, 2.4));
    }
    return sum;
}

double colour_contrast(struct colour a, struct colour b) {
    const double one = brightness(a) + 0.05, other = brightness(b) + 0.05;
    return one > other ? one / other : other / one;
}

struct colour colour_upon(struct colour colour) {
    static const struct colour black = {0, 0, 0}, white = {255, 255, 255};
    return colour_contrast(colour, white) > colour_contrast(colour, black) ? white : black;
}

void passkey_svg_begin(struct markup *out, double width, double height, bool alone,
                       const char *title) {
    markup(out,
           "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"passkey\" viewBox=\"0 0 %.0f %.0f\" "
           "width=\"%.0f\" height=\"%.0f\" role=\"img\" aria-label=\"%s\" "
           "font-family=\"" PASSKEY_FONT "\">\n",
           width, height, width, height, title);
    if (!alone) return;
    markup(out,
           "<title>%s</title>\n<style>%s</style>\n<rect class=\"surface\" width=\"%.0f\" "
           "height=\"%.0f\" rx=\"10\" fill=\"#ffffff\"/>\n",
           title, passkey_svg_style, width, height);
}
