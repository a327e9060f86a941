// Hugging Face runs patterns with Oniguruma. What both engines read alike goes through; \s is
// spelled out, since PCRE2 counts U+180E as a space; all else is refused.
#include "pipeline/bpe_split.h"

#include <string.h>

#define SPACES                                                                               \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}" \
    "\\x{3000}"

struct translation {
    const char *text; // what is left
    char *out;
    const char *wrong;
};

static void put(struct translation *t, const char *text, size_t bytes) {
    memcpy(t->out, text, bytes);
    t->out += bytes;
}

static void put_text(struct translation *t, const char *text) {
    put(t, text, strlen(text));
}

static bool refuse(struct translation *t, const char *wrong) {
    t->wrong = wrong;
    return false;
}

// \p{Lu}, \P{N}: general categories only.
static bool property(struct translation *t) {
    static const char *const known[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me",
                                        "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi",
                                        "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl",
                                        "Zp", "C",  "Cc", "Cf", "Cs", "Co", "Cn"};
    const char *end = strchr(t->text, '}');
    if (t->text[2] == '{' && end != NULL) {
        const char *name = t->text + 3;
        const size_t bytes = (size_t)(end - name);
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            if (strlen(known[i]) != bytes || memcmp(known[i], name, bytes) != 0) continue;
            put(t, t->text, bytes + 4);
            t->text = end + 1;
            return true;
        }
    }
    return refuse(t, "only general categories are supported as properties");
}

static bool escape(struct translation *t, bool in_class) {
    const char c = t->text[1];
    if (c == 'p' || c == 'P') return property(t);
    if (c == 's') {
        put_text(t, in_class ? SPACES : "[" SPACES "]");
    } else if (c == 'S' && !in_class) {
        put_text(t, "[^" SPACES "]");
    } else if (c == 'd') {
        put_text(t, "\\p{Nd}");
    } else if (c == 'D') {
        put_text(t, "\\P{Nd}");
    } else if (c == 'r' || c == 'n' || c == 't' ||
               (c != '\0' && strchr("\\^$.|?*+()[]{}-/'\"# ", c))) {
        put(t, t->text, 2);
    } else {
        return refuse(t, "this escape is not supported");
    }
    t->text += 2;
    return true;
}

static bool class(struct translation *t) {
    put(t, t->text++, 1);
    if (*t->text == '^') put(t, t->text++, 1);
    if (*t->text == ']') return refuse(t, "a class that begins with ] is not supported");
    while (*t->text != ']') {
        if (*t->text == '\0') return refuse(t, "a class has no end");
        if (*t->text == '[') return refuse(t, "a class inside a class is not supported");
        if (t->text[0] == '&' && t->text[1] == '&') return refuse(t, "&& is not supported");
        const bool spaces = t->text[0] == '\\' && t->text[1] == 's'; // which becomes several
        if (spaces && (t->text[-1] == '-' || (t->text[2] == '-' && t->text[3] != ']'))) {
            return refuse(t, "a range from or to \\s is not supported");
        }
        if (*t->text == '\\') {
            if (!escape(t, true)) return false;
        } else {
            put(t, t->text++, 1);
        }
    }
    put(t, t->text++, 1);
    return true;
}

// ( (?: (?i: (?= (?!
static bool group(struct translation *t) {
    static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!"};
    if (t->text[1] != '?') {
        put_text(t, "(?:"); // what it captures is not asked for
        t->text++;
        return true;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(t->text, known[i], strlen(known[i])) != 0) continue;
        put_text(t, known[i]);
        t->text += strlen(known[i]);
        return true;
    }
    return refuse(t, "this kind of group is not supported");
}

// {n} {n,} {n,m}, then perhaps ?; a + behind it means one thing here and another there.
static bool counted(struct translation *t) {
    const size_t bytes = 1 + strspn(t->text + 1, "0123456789,");
    const char *const digits = "0123456789";
    if (t->text[bytes] != '}' || strchr(digits, t->text[1]) == NULL || bytes > 10) {
        return refuse(t, "this repetition is not supported");
    }
    const char behind = t->text[bytes + 1];
    if (behind == '+' || (behind == '?' && memchr(t->text, ',', bytes) == NULL)) {
        return refuse(t, "what stands behind this repetition is not supported");
    }
    put(t, t->text, bytes + 1);
    t->text += bytes + 1;
    return true;
}

const char *pattern_translate(const char *text, char *out, size_t *at) {
    struct translation t = {.text = text, .out = out};
    bool good = true;
    while (good && *t.text != '\0') {
        switch (*t.text) {
        case '\\': good = escape(&t, false); break;
        case '[': good = class(&t); break;
        case '(': good = group(&t); break;
        case '{': good = counted(&t); break;
        case '.':
        case '^':
        case '$': good = refuse(&t, "this character has two meanings and is not supported"); break;
        default: put(&t, t.text++, 1); break;
        }
    }
    *t.out = '\0';
    *at = (size_t)(t.text - text);
    return t.wrong;
}
