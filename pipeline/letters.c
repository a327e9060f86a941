#include "pipeline/letters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct letter {
    struct letter *next;
    size_t bytes; // of this block
    struct dead_letter letter;
};

// Copies bytes behind the letter, with a terminator that a text needs and nothing else minds.
static const char *put(char **at, const void *bytes, size_t count) {
    char *start = *at;
    if (count > 0) memcpy(start, bytes, count);
    start[count] = '\0';
    *at = start + count + 1;
    return start;
}

enum status letters_add(struct letters *letters, const struct letter_facts *facts) {
    char reason[512];
    const int reason_bytes = snprintf(reason, sizeof reason, "%s: %s", facts->key, facts->words);
    const size_t kept =
        (size_t)reason_bytes < sizeof reason ? (size_t)reason_bytes : sizeof reason - 1;
    const size_t bytes = sizeof(struct letter) + facts->id_bytes + kept + facts->message_bytes + 3;
    struct letter *added = malloc(bytes);
    if (added == NULL) return FAIL(NO_MEMORY, "a dead letter of %zu bytes", bytes);
    char *at = (char *)(added + 1);
    *added = (struct letter){
        .bytes = bytes,
        .letter = {.id = facts->id_bytes > 0 ? put(&at, facts->id, facts->id_bytes) : NULL,
                   .id_bytes = facts->id_bytes,
                   .reason = put(&at, reason, kept),
                   .topic = facts->origin != NULL ? facts->origin : "",
                   .partition = facts->partition,
                   .offset = facts->offset,
                   .expected_first = facts->expected_first,
                   .found_first = facts->found_first,
                   .record = facts->message != NULL ? put(&at, facts->message, facts->message_bytes)
                                                    : NULL,
                   .record_bytes = facts->message_bytes,
                   .message_bytes = (int64_t)facts->message_bytes}
    };
    if (letters->last != NULL) {
        letters->last->next = added;
    } else {
        letters->first = added;
    }
    letters->last = added;
    letters->bytes += (int64_t)bytes;
    return STATUS_OK;
}

static void drop_first(struct letters *letters) {
    struct letter *first = letters->first;
    letters->first = first->next;
    if (letters->first == NULL) letters->last = NULL;
    letters->bytes -= (int64_t)first->bytes;
    free(first);
}

enum status letters_emit(struct letters *letters, struct sink *sink, int64_t *handed_over) {
    while (letters->first != NULL) {
        TRY(sink->table->letter(sink, &letters->first->letter));
        (*handed_over)++;
        drop_first(letters);
    }
    return STATUS_OK;
}

void letters_free(struct letters *letters) {
    while (letters->first != NULL) {
        drop_first(letters);
    }
}
