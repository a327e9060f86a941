#include "src/bar.h"

#include "ops/base/log.h"
#include "src/launch.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

// The terminal is one, so the bar is one: held from bar_hide to bar_show, and while it is drawn.
static pthread_mutex_t bar_lock = PTHREAD_MUTEX_INITIALIZER;
static bool bar_on;
static char bar_text[512];

static void draw(void) {
    const int columns = (int)launch_columns() - 1; // a full line would scroll
    int bytes = (int)strlen(bar_text);
    if (bytes > columns) { // what does not fit goes, by whole parts where it can
        for (bytes = columns > 0 ? columns : 0; bytes > 0 && bar_text[bytes] != ',';) {
            bytes--;
        }
        if (bytes == 0 && columns > 0) bytes = columns;
    }
    fprintf(stderr, "\r%.*s\033[K", bytes, bar_text);
    fflush(stderr);
}

static void erase(void) {
    fputs("\r\033[K", stderr);
    fflush(stderr);
}

void bar_hide(void) {
    pthread_mutex_lock(&bar_lock);
    if (bar_on) erase();
}

void bar_show(void) {
    if (bar_on) draw();
    pthread_mutex_unlock(&bar_lock);
}

void bar_open(void) {
    pthread_mutex_lock(&bar_lock);
    bar_on = true;
    bar_text[0] = '\0';
    pthread_mutex_unlock(&bar_lock);
    log_set_screen(bar_hide, bar_show);
}

bool bar_is_open(void) {
    pthread_mutex_lock(&bar_lock);
    const bool on = bar_on;
    pthread_mutex_unlock(&bar_lock);
    return on;
}

void bar_draw(const char *text) {
    pthread_mutex_lock(&bar_lock);
    if (bar_on) {
        snprintf(bar_text, sizeof bar_text, "%s", text);
        draw();
    }
    pthread_mutex_unlock(&bar_lock);
}

void bar_close(void) {
    log_set_screen(NULL, NULL);
    pthread_mutex_lock(&bar_lock);
    if (bar_on) erase();
    bar_on = false;
    pthread_mutex_unlock(&bar_lock);
}
