#pragma once
// One sample of the passkey task as a message describes it:
//     {"id":"a","length":4096,"depth":0.25,"key":"12345","seed":1}
// key and seed may be missing. A line of results.jsonl is such a description as it stands: members that
// are unknown are skipped, and those that name the task must be this job's.

#include "src/passkey_task.h"

#define PASSKEY_MESSAGE_MOST ((size_t)64 * 1024)

// Where a description came from, and who answers for it.
struct passkey_place {
    int32_t partition;
    int64_t offset;
    int64_t term; // of this job's time with the partition; 0: it came from no topic
};

struct passkey_description {
    char id[PASSKEY_ID_MOST];
    int64_t length;             // tokens of the prompt, at most; at least 1
    double depth;               // in [0, 1]
    char key[PASSKEY_KEY_MOST]; // "": drawn from the seed and the id
    uint64_t seed;
    struct passkey_place place;
};

struct passkey_wrong {
    char text[160];
};

// task: this job's, the members that passkey_task_json makes, in braces; seed: for messages without one.
// The text need not be terminated; place is left alone. false: it cannot be used, and wrong says why.
bool passkey_description_read(const char *text, size_t bytes, const char *task, uint64_t seed,
                              struct passkey_description *description, struct passkey_wrong *wrong);
