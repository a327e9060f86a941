#include "ops/base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static enum log_level log_most = LOG_INFO;
static enum log_format log_form = LOG_TEXT;
static void (*screen_before)(void);
static void (*screen_after)(void);
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local int32_t thread_rank = -1;

void log_setup(enum log_level most, enum log_format format) {
    log_most = most;
    log_form = format;
}

void log_set_rank(int32_t rank) {
    thread_rank = rank;
}

int32_t log_rank(void) {
    return thread_rank;
}

bool log_on(enum log_level level) {
    return level <= log_most;
}

void log_set_screen(void (*before)(void), void (*after)(void)) {
    pthread_mutex_lock(&log_lock);
    screen_before = before;
    screen_after = after;
    pthread_mutex_unlock(&log_lock);
}

// JSON string contents of text into out, which always ends up terminated.
static void escape(const char *text, char *out, size_t out_bytes) {
    size_t at = 0;
    for (; *text != '\0' && at + 7 < out_bytes; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            out[at++] = '\\';
            out[at++] = (char)c;
        } else if (c < 0x20) {
            at += (size_t)snprintf(out + at, 7, "\\u%04x", c);
        } else {
            out[at++] = (char)c;
        }
    }
    out[at] = '\0';
}

// Ids and paths are whatever came in: a terminal is not to obey them, nor one line to look like two.
static void tame(char *text) {
    unsigned char before = 0;
    for (; *text != '\0'; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f) *text = '?';
        if (before == 0xc2 && c >= 0x80 && c < 0xa0) text[-1] = text[0] = '?'; // U+0080 to U+009F
        before = c;
    }
}

static const char *place_of(const char *file) {
    static const char *const tops[] = {"/ops/", "/pipeline/", "/src/", "/cuda/", "/tests/"};
    for (size_t i = 0; i < sizeof tops / sizeof tops[0]; i++) {
        const char *at = strstr(file, tops[i]);
        if (at != NULL) return at + 1;
    }
    return file;
}

void log_write(enum log_level level, const char *file, int line, const char *format, ...) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    char text[2048];
    char rank[24] = "";
    char stamp[40];
    struct timespec now;
    struct tm utc;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);

    pthread_mutex_lock(&log_lock);
    if (screen_before != NULL) screen_before();
    if (log_form == LOG_JSON) {
        char safe[4096];
        escape(text, safe, sizeof safe);
        fprintf(stderr,
                "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"rank\":%d,\"place\":\"%s:%d\","
                "\"message\":\"%s\"}\n",
                stamp, now.tv_nsec / 1000000, names[level], (int)thread_rank, place_of(file), line,
                safe);
    } else {
        tame(text);
        if (thread_rank >= 0) snprintf(rank, sizeof rank, " [%d]", (int)thread_rank);
        if (log_most < LOG_DEBUG) {
            fprintf(stderr, "%s %s%s %s\n", stamp + 11, names[level], rank, text);
        } else {
            fprintf(stderr, "%s %s%s %s (%s:%d)\n", stamp + 11, names[level], rank, text,
                    place_of(file), line);
        }
    }
    if (screen_after != NULL) screen_after();
    pthread_mutex_unlock(&log_lock);
}
