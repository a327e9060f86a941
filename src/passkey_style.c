// Sources of the strings and rules:
// paper: thunlp/stuffed-mamba, passkey-retrieval/passkey.py and eval_mamba2.py (ccf0bd7). Ours counts
//   BOS and --add-prefix into the length, which that code does not, so that no prompt is longer.
// infinitebench: OpenBMB/InfiniteBench, data/construct_synthetic_dataset.py, src/prompt.py (the wording
//   that ends in "The pass key is"), src/compute_scores.py. Its counts of noise lines, 1305 at 32K and
//   in proportion from 8K to 256K, are for a tokenizer of 25 tokens a line; where they do not fit, as
//   many as do. Not verified: that the published data set's files have no other line ends.
// niah: RULER's niah_single_1: scripts/data/synthetic/niah.py and constants.py, with the answer's prefix,
//   in the singular that niah.py makes of the template for one needle. 128 tokens of the length are the
//   answer's. It draws the place among all lines, never the last, and the needle's name from the word
//   lists of a Python package; here places are those of the grid, and names of the same form (bold-needle)
//   come from the lists below. Read in copies of NVIDIA/RULER that agree with one another.
#include "src/passkey_style.h"

#include <stdio.h>

#define NOISE \
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
#define HIDDEN "There is an important info hidden inside a lot of irrelevant text. "

static const struct passkey_style paper = {
    .name = "paper",
    .prefix = HIDDEN "Find it and memorize it.\n\n",
    .sentence = NOISE,
    .key = "The passkey is {k}. Remember it. {k} is the passkey.\n",
    .question = "\nWhat is the pass key? The passkey is",
    .digits = 5,
    .padded = true,
    .replaces = true,
    .new_tokens = 5,
};

static const struct passkey_style infinitebench = {
    .name = "infinitebench",
    .prefix = HIDDEN "Find it and memorize them. I will quiz you about the important information "
                     "there.\n\n",
    .sentence = NOISE,
    .key = "The pass key is {k}. Remember it. {k} is the pass key.\n",
    .question = "\nWhat is the pass key?\nThe pass key is",
    .digits = 5,
    .padded = true,
    .new_tokens = 6,
    .first_number = true,
    .lines = 1305,
    .lines_of = 32768,
};

static const struct passkey_style niah = {
    .name = "niah",
    .prefix =
        "A special magic number is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the number afterwards.\n",
    .sentence = NOISE,
    .key = "One of the special magic numbers for {w} is: {k}.\n",
    .question =
        "What is the special magic number for {w} mentioned in the provided text? The special "
        "magic number for {w} mentioned in the provided text is",
    .digits = 7,
    .answer_room = 128,
    .new_tokens = 128,
};

static const struct passkey_style *const styles[] = {&paper, &infinitebench, &niah};

const struct passkey_style *passkey_style_named(const char *name) {
    for (size_t i = 0; i < sizeof styles / sizeof styles[0]; i++) {
        if (strcmp(styles[i]->name, name) == 0) return styles[i];
    }
    return NULL;
}

enum status passkey_style_put(struct bytes *out, const char *text, const char *key,
                              const char *word) {
    for (const char *open = NULL; (open = strchr(text, '{')) != NULL; text = open + 3) {
        const char *value = open[1] == 'k' ? key : word;
        TRY(bytes_put(out, text, (size_t)(open - text)));
        TRY(bytes_put(out, value, strlen(value)));
    }
    return bytes_put(out, text, strlen(text));
}

static bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

bool passkey_style_correct(const struct passkey_style *style, const char *key, const char *text,
                           size_t bytes) {
    const size_t digits = strlen(key);
    if (!style->first_number) {
        for (size_t at = 0; at + digits <= bytes; at++) {
            if (memcmp(text + at, key, digits) == 0) return true;
        }
        return false;
    }
    size_t first = 0, end = 0;
    while (first < bytes && !is_digit(text[first])) {
        first++;
    }
    for (end = first; end < bytes && is_digit(text[end]);) {
        end++;
    }
    return end - first == digits && memcmp(text + first, key, digits) == 0;
}

void passkey_style_word(uint64_t bits, char *word, size_t bytes) {
    static const char *const adjectives[32] = {
        "amber", "brave", "calm",   "dusty", "early", "faint", "gentle", "hollow",
        "icy",   "jolly", "keen",   "late",  "mild",  "noble", "odd",    "plain",
        "quiet", "rapid", "silent", "tidy",  "upper", "vivid", "warm",   "young",
        "ample", "bold",  "crisp",  "deep",  "eager", "fresh", "grand",  "humble"};
    static const char *const nouns[32] = {
        "anchor", "basket", "candle", "desert", "engine", "feather", "garden",  "hammer",
        "island", "jacket", "kettle", "ladder", "meadow", "needle",  "orchard", "pebble",
        "quarry", "ribbon", "saddle", "temple", "umpire", "valley",  "window",  "yard",
        "bridge", "castle", "dinner", "forest", "harbor", "lantern", "market",  "pencil"};
    snprintf(word, bytes, "%s-%s", adjectives[bits % 32], nouns[bits / 32 % 32]);
}
