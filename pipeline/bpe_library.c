#define PCRE2_CODE_UNIT_WIDTH 8
#include "pipeline/bpe_tokenizer.h"
#include "pipeline/libraries.h"

#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

void bpe_libraries(struct library *pcre2, struct library *utf8proc) {
    *pcre2 = (struct library){.name = "PCRE2", .built = TEXT(PCRE2_MAJOR) "." TEXT(PCRE2_MINOR)};
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) <= (int)sizeof pcre2->running) {
        (void)pcre2_config(PCRE2_CONFIG_VERSION, pcre2->running); // "10.42 2022-12-11"
        pcre2->running[strcspn(pcre2->running, " ")] = '\0';
    }
    *utf8proc = (struct library){.name = "utf8proc",
                                 .built = TEXT(UTF8PROC_VERSION_MAJOR) "." TEXT(
                                     UTF8PROC_VERSION_MINOR) "." TEXT(UTF8PROC_VERSION_PATCH)};
    snprintf(utf8proc->running, sizeof utf8proc->running, "%s", utf8proc_version());
}

void bpe_tables(bool own_pattern, char *text, size_t bytes) {
    char pcre2[64] = "", unicode[64] = "";
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) <= (int)sizeof pcre2) {
        (void)pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    }
    if (pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL) <= (int)sizeof unicode) {
        (void)pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, unicode);
    }
    snprintf(text, bytes, "Unicode %s%s%s%s%s", utf8proc_unicode_version(),
             own_pattern ? ", PCRE2 " : "", own_pattern ? pcre2 : "",
             own_pattern ? " with Unicode " : "", own_pattern ? unicode : "");
}
