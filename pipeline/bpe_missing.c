// In the place of all other bpe_*.c where the build has no PCRE2 or utf8proc.
#include "pipeline/tokenizer.h"

enum status bpe_tokenizer_open(const char *path, enum text_errors errors,
                               struct tokenizer **opened) {
    (void)errors;
    (void)opened;
    return FAIL(USAGE,
                "%s: this longscan was built without tokenizer.json; build it with PCRE2 and "
                "utf8proc (Debian: libpcre2-dev libutf8proc-dev), or give token ids",
                path);
}
