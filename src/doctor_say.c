// What doctor says: a line a finding and a rank for people, or as JSON.

#include "pipeline/json_put.h"
#include "src/doctor.h"

#include <string.h>

static const char *const verdicts[] = {"ok", "warn", "bad"};

static void count_verdicts(const struct findings *findings, int32_t count[3]) {
    memset(count, 0, 3 * sizeof *count);
    for (int32_t i = 0; i < findings->count; i++) {
        count[findings->item[i].verdict]++;
    }
}

static enum status put_text(struct bytes *out, const char *before, const char *text) {
    return json_put_string(out, before, text, strlen(text));
}

static enum status put_finding(struct bytes *out, const struct finding *item) {
    TRY(put_text(out, "{\"kind\":\"finding\",\"what\":", item->what));
    TRY(put_text(out, ",\"value\":", item->value));
    TRY(put_text(out, ",\"verdict\":", verdicts[item->verdict]));
    if (item->advice[0] != '\0') TRY(put_text(out, ",\"advice\":", item->advice));
    return json_put(out, "}\n");
}

static enum status put_rank(struct bytes *out, const struct doctor_rank *rank, int32_t index) {
    TRY(json_put_int(out, "{\"kind\":\"rank\",\"rank\":", index));
    TRY(put_text(out, ",\"host\":", rank->host));
    TRY(json_put_int(out, ",\"local_rank\":", rank->local_rank));
    TRY(put_text(out, ",\"cores\":", rank->cores));
    TRY(put_text(out, ",\"kernels\":", rank->kernels));
    if (rank->device[0] != '\0') TRY(put_text(out, ",\"device\":", rank->device));
    TRY(put_text(out, ",\"version\":", rank->program));
    TRY(json_put_int(out, ",\"plugin_abi\":", rank->plugin_abi));
    TRY(put_text(out, ",\"libraries\":", rank->libraries));
    return json_put(out, "}\n");
}

static enum status put_all(struct bytes *out, const struct findings *findings,
                           const struct doctor_rank *rank, int32_t ranks) {
    int32_t count[3];
    count_verdicts(findings, count);
    for (int32_t i = 0; i < findings->count; i++) {
        TRY(put_finding(out, &findings->item[i]));
    }
    for (int32_t i = 0; i < ranks; i++) {
        TRY(put_rank(out, &rank[i], i));
    }
    TRY(json_put_int(out, "{\"kind\":\"verdict\",\"ok\":", count[VERDICT_OK]));
    TRY(json_put_int(out, ",\"warn\":", count[VERDICT_WARN]));
    TRY(json_put_int(out, ",\"bad\":", count[VERDICT_BAD]));
    return json_put(out, "}\n");
}

static enum status say_json(FILE *out, const struct findings *findings,
                            const struct doctor_rank *rank, int32_t ranks) {
    struct bytes text = {0}; // host names and texts of libraries may be anything
    const enum status status = put_all(&text, findings, rank, ranks);
    if (status == STATUS_OK) fwrite(text.data, 1, text.count, out);
    bytes_free(&text);
    return status;
}

static void say_table(FILE *out, const struct findings *findings, const struct doctor_rank *rank,
                      int32_t ranks) {
    int32_t count[3];
    count_verdicts(findings, count);
    for (int32_t i = 0; i < findings->count; i++) {
        const struct finding *item = &findings->item[i];
        fprintf(out, "%-4s  %-18s %s\n", verdicts[item->verdict], item->what, item->value);
        if (item->advice[0] != '\0') fprintf(out, "      %-18s -> %s\n", "", item->advice);
    }
    if (ranks > 0)
        fprintf(out, "\n%5s  %-20s %-10s %-8s %s\n", "rank", "host", "cores", "kernels", "GPU");
    for (int32_t i = 0; i < ranks; i++) {
        fprintf(out, "%5d  %-20s %-10s %-8s %s\n", i, rank[i].host, rank[i].cores, rank[i].kernels,
                rank[i].device[0] != '\0' ? rank[i].device : "-");
    }
    fprintf(out, "\n%d ok, %d to look at, %d bad\n", count[VERDICT_OK], count[VERDICT_WARN],
            count[VERDICT_BAD]);
}

enum status doctor_say(FILE *out, bool table, const struct findings *findings,
                       const struct doctor_rank *rank, int32_t ranks) {
    if (!table) return say_json(out, findings, rank, ranks);
    say_table(out, findings, rank, ranks);
    return STATUS_OK;
}
