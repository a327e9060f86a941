#pragma once
// Markup that is put together, and the colours of accuracy.

#include "src/passkey_report_inner.h"

// The first failure stays, and is looked at once, at the end.
struct markup {
    struct bytes out;
    enum status status;
};

__attribute__((format(printf, 2, 3))) void markup(struct markup *markup, const char *format, ...);
// Any bytes as text or as the value of an attribute: well-formed UTF-8 and XML whatever they are.
// Control characters become pictures of themselves.
void markup_text(struct markup *markup, const char *text, size_t bytes);

struct colour {
    int red, green, blue;
};

// Red (0) over yellow to green (1). Both ends differ in brightness and in blue too, so that they stay
// two for eyes that tell red and green apart badly.
struct colour colour_of(double share);
// Black or white, whichever reads better upon it.
struct colour colour_upon(struct colour colour);
double colour_contrast(struct colour a, struct colour b); // as WCAG 2 has it, 1 to 21
