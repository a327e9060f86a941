// Verb `passkey`: can a model find a key in a text of any length?

#include "ops/model/config.h"
#include "src/launch.h"
#include "src/passkey_job.h"
#include "src/passkey_task.h"
#include "src/tokenizer_choice.h"

#include <stdio.h>
#include <string.h>

// Only the model's config and tokenizer are needed.
static enum status show_sample(const struct settings *settings) {
    struct mamba2_config config = {0};
    struct tokenizer *tokenizer = NULL;
    struct passkey_task *task = NULL;
    struct passkey_sample sample;
    struct bytes prompt = {0};
    struct bytes answer = {0};
    enum status status = STATUS_OK;
    TRY(rank_model_check(settings));
    TRY(config_find(settings->model, &config));
    TRY(tokenizer_for_text(settings, config.vocab_size, &tokenizer));
    const int32_t bos = settings->bos ? (int32_t)config.bos : -1;
    TRY_OUT(status, passkey_task_open(settings, tokenizer, bos, &task));
    TRY_OUT(status, passkey_task_find(task, settings->show_sample, &sample));
    TRY_OUT(status, passkey_task_text(task, &sample, &prompt, &answer));
    if (fwrite(prompt.data, 1, prompt.count, stdout) != prompt.count || fflush(stdout) != 0) {
        status = FAIL(IO, "cannot write to standard output");
        goto out;
    }
    if (launch_output_is_terminal()) putchar('\n');
    LOG(INFO, "sample %s; the answer is \"%.*s\"", sample.id, (int)answer.count, answer.data);
out:
    bytes_free(&prompt);
    bytes_free(&answer);
    passkey_task_close(task);
    tokenizer->close(tokenizer);
    return status;
}

enum status verb_passkey(const struct settings *settings, int *exit_code) {
    struct score_totals totals = {0};
    if (settings->show_sample != NULL) return show_sample(settings);
    const enum status status = ranks_run(settings, passkey_on_rank, &totals);
    *exit_code =
        status == STATUS_OK || totals.exit_code != 0 ? totals.exit_code : status_exit_code(status);
    return status;
}
