#pragma once
// Where a job's samples come from: the task's grid, or the messages of a topic; and who hears of results.

#include "src/passkey_job_inner.h"

void passkey_feed_listing(struct passkey_job *job);
// On leaders. Errors: MISMATCH (what --resume found is not of this grid), the queue's, NO_MEMORY.
enum status passkey_feed_open(struct passkey_job *job);
// As struct passkey_tree_settings says; listener is the job.
enum status passkey_feed_batch(void *listener, struct passkey_batch *batch);
// job->line holds the result, which is kept where it is to be kept. Errors: the queue's.
enum status passkey_feed_answered(struct passkey_job *job, int64_t index,
                                  const struct passkey_result *result);
// Offsets of what is answered, once it is kept. Errors: IO, the queue's.
enum status passkey_feed_commit(struct passkey_job *job);
// complete: what was answered is confirmed and committed first. Errors: the queue's.
enum status passkey_feed_close(struct passkey_job *job, bool complete);
