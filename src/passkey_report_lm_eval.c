// The results in the shapes of lm-evaluation-harness 0.4: results_DATE.json, in which each length is a
// task, and samples_TASK_DATE.jsonl for each. Prompts are left out, which are as long as the model can
// read, and with them what depends on their text.

#include "ops/base/hash.h"
#include "pipeline/json_put.h"
#include "src/passkey_report_inner.h"

#include <inttypes.h>
#include <math.h>
#include <time.h>

#define NAME_MOST 128

static enum status put_result(const struct passkey_facts *facts,
                              const struct passkey_column *column, struct bytes *out) {
    (void)facts;
    const double acc = passkey_accuracy(column->tally), n = (double)column->tally.n;
    TRY(json_put_int(out, "{\"alias\":\"passkey_", column->length));
    TRY(json_put_double(out, "\",\"acc,none\":", acc));
    if (column->tally.n < 2) return json_put(out, ",\"acc_stderr,none\":\"N/A\"}");
    TRY(json_put_double(out, ",\"acc_stderr,none\":", sqrt(acc * (1 - acc) / (n - 1))));
    return json_put(out, "}");
}

static enum status put_config(const struct passkey_facts *facts,
                              const struct passkey_column *column, struct bytes *out) {
    TRY(json_put_int(out, "{\"task\":\"passkey_", column->length));
    TRY(json_put(out, "\",\"output_type\":\"generate_until\",\"repeats\":1,\"num_fewshot\":0,"
                      "\"metric_list\":[{\"metric\":\"acc\",\"aggregation\":\"mean\","
                      "\"higher_is_better\":true}],\"should_decontaminate\":false,"
                      "\"metadata\":{\"version\":1.0"));
    TRY(json_put_int(out, ",\"length\":", column->length));
    TRY(json_put(out, ",\"task\":{"));
    if (facts->task != NULL) TRY(json_put(out, facts->task));
    return json_put(out, "}}}");
}

static enum status put_samples(const struct passkey_facts *facts,
                               const struct passkey_column *column, struct bytes *out) {
    (void)facts;
    TRY(json_put_int(out, "{\"original\":", column->tally.n));
    TRY(json_put_int(out, ",\"effective\":", column->tally.n));
    return json_put(out, "}");
}

// Of every task, by name: text that is the same for all, or what `put` writes.
static const struct {
    const char *name, *text;
    enum status (*put)(const struct passkey_facts *facts, const struct passkey_column *column,
                       struct bytes *out);
} of_tasks[] = {
    {"results",          NULL,             put_result },
    {"group_subtasks",   "[]",             NULL       },
    {"configs",          NULL,             put_config },
    {"versions",         "1.0",            NULL       },
    {"n-shot",           "0",              NULL       },
    {"higher_is_better", "{\"acc\":true}", NULL       },
    {"n-samples",        NULL,             put_samples},
};

static enum status put_tasks(const struct passkey_report *report, const struct passkey_map *map,
                             struct bytes *out) {
    for (size_t what = 0; what < sizeof of_tasks / sizeof of_tasks[0]; what++) {
        TRY(json_put(out, what == 0 ? "{\n\"" : ",\n\""));
        TRY(json_put(out, of_tasks[what].name));
        TRY(json_put(out, "\":{"));
        for (int64_t i = 0; i < map->lengths; i++) {
            const struct passkey_column *column = &map->column[i];
            TRY(json_put_int(out, i == 0 ? "\n\"passkey_" : ",\n\"passkey_", column->length));
            TRY(json_put(out, "\":"));
            TRY(of_tasks[what].put == NULL ? json_put(out, of_tasks[what].text)
                                           : of_tasks[what].put(report->facts, column, out));
        }
        TRY(json_put(out, "}"));
    }
    return STATUS_OK;
}

// As the harness makes a folder's name of a model's: runs of "<>:/|\?*[] become two low lines.
static enum status put_sanitized(struct bytes *out, const char *before, const char *name) {
    struct bytes plain = {0};
    enum status status = STATUS_OK;
    bool was_special = false;
    for (const char *c = name == NULL ? "" : name; *c != '\0' && status == STATUS_OK; c++) {
        const bool special = strchr("\"<>:/|\\?*[]", *c) != NULL;
        if (!special) status = bytes_put(&plain, c, 1);
        if (special && !was_special) status = bytes_put(&plain, "__", 2);
        was_special = special;
    }
    if (status == STATUS_OK) status = json_put_string(out, before, plain.data, plain.count);
    bytes_free(&plain);
    return status;
}

static enum status put_run(const struct passkey_facts *facts, time_t ended, struct bytes *out) {
    TRY(json_put(out, ",\n\"config\":{\"model\":\"longscan\""));
    TRY(passkey_put_text(out, ",\"model_args\":{\"pretrained\":", facts->model_name));
    TRY(passkey_put_text(out, ",\"dtype\":", facts->dtype));
    TRY(passkey_put_text(out, ",\"tokenizer\":", facts->tokenizer));
    TRY(json_put_int(out, "},\"model_num_parameters\":", facts->parameters));
    TRY(passkey_put_text(out, ",\"model_dtype\":", facts->dtype));
    TRY(passkey_put_text(
        out, ",\"batch_size\":\"auto\",\"batch_sizes\":[],\"device\":", facts->backend));
    TRY(json_put(out, ",\"use_cache\":null,\"limit\":null,\"bootstrap_iters\":0,"
                      "\"gen_kwargs\":{\"do_sample\":false}},\n\"git_hash\":null"));
    TRY(json_put_double(out, ",\"date\":", (double)ended - facts->seconds));
    TRY(json_put(out, ",\n\"model_source\":\"longscan\""));
    TRY(passkey_put_text(out, ",\"model_name\":", facts->model_name));
    TRY(put_sanitized(out, ",\"model_name_sanitized\":", facts->model_name));
    TRY(json_put_double(out, ",\"start_time\":", (double)ended - facts->seconds));
    TRY(json_put_double(out, ",\"end_time\":", (double)ended));
    TRY(json_put_double(out, ",\"total_evaluation_time_seconds\":\"", facts->seconds));
    TRY(passkey_put_hash(out, "\",\n\"longscan\":{\"model\":", facts->model));
    TRY(passkey_put_hash(out, ",\"settings\":", facts->settings));
    TRY(passkey_put_hash(out, ",\"numerics\":", facts->numerics));
    return json_put(out, ",\n\"left_out\":[\"arguments: prompts; longscan passkey --show-sample "
                         "prints one\",\"prompt_hash\",\"task_hashes\",\"git_hash\","
                         "\"pretty_env_info\"]}\n}\n");
}

static enum status put_doc(const struct passkey_sample *sample, struct bytes *out) {
    TRY(passkey_put_sample(out, sample));
    return json_put(out, "}");
}

static enum status put_sample(const struct passkey_result *result, int64_t number,
                              struct bytes *out) {
    const char *key = result->sample.key;
    TRY(json_put_int(out, "{\"doc_id\":", number));
    TRY(json_put(out, ",\"doc\":"));
    const size_t doc = out->count;
    TRY(put_doc(&result->sample, out));
    const uint64_t hash = hash_bytes(out->data + doc, out->count - doc);
    TRY(passkey_put_text(out, ",\"target\":", key));
    TRY(json_put(out, ",\"arguments\":{\"gen_args_0\":{\"arg_0\":\"\",\"arg_1\":"
                      "{\"do_sample\":false}}}"));
    TRY(json_put_string(out, ",\"resps\":[[", result->prediction, result->prediction_bytes));
    TRY(json_put_string(out, "]],\"filtered_resps\":[", result->prediction,
                        result->prediction_bytes));
    TRY(passkey_put_hash(out, "],\"filter\":\"none\",\"metrics\":[\"acc\"],\"doc_hash\":", hash));
    TRY(passkey_put_hash(out,
                         ",\"prompt_hash\":\"\",\"target_hash\":", hash_bytes(key, strlen(key))));
    return json_put(out, result->correct ? ",\"acc\":1.0}\n" : ",\"acc\":0.0}\n");
}

static enum status write_samples(const struct passkey_report *report,
                                 const struct passkey_column *column, const char *date,
                                 const char *folder, struct bytes *text) {
    char name[NAME_MOST];
    for (int64_t i = 0; i < column->tally.n; i++) {
        TRY(put_sample(&report->results[column->first + i], i, text));
    }
    snprintf(name, sizeof name, "samples_passkey_%" PRId64 "_%s.jsonl", column->length, date);
    return passkey_report_file(folder, name, text);
}

static enum status write_all(const struct passkey_report *report, const struct passkey_map *map,
                             const char *folder, struct bytes *text) {
    char date[64], name[NAME_MOST];
    struct timespec now = {0};
    struct tm local = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    const size_t bytes = strftime(date, sizeof date, "%Y-%m-%dT%H-%M-%S", &local);
    snprintf(date + bytes, sizeof date - bytes, ".%06ld", now.tv_nsec / 1000);
    TRY(put_tasks(report, map, text));
    TRY(put_run(report->facts, now.tv_sec, text));
    snprintf(name, sizeof name, "results_%s.json", date);
    TRY(passkey_report_file(folder, name, text));
    for (int64_t i = 0; i < map->lengths; i++) {
        TRY(write_samples(report, &map->column[i], date, folder, text));
    }
    return STATUS_OK;
}

enum status passkey_report_lm_eval(const struct passkey_report *report, const char *folder) {
    struct passkey_map map;
    struct bytes text = {0};
    enum status status = passkey_map_build(report, PASSKEY_ROWS_MOST, &map);
    if (status == STATUS_OK) status = write_all(report, &map, folder, &text);
    bytes_free(&text);
    passkey_map_free(&map);
    return status;
}
