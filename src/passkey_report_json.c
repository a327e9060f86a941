// summary.json and summary.csv.

#include "pipeline/json_put.h"
#include "src/passkey_report_inner.h"

static enum status put_facts(const struct passkey_facts *facts, struct bytes *out) {
    TRY(passkey_put_text(out, "{\n\"model\":{\"name\":", facts->model_name));
    TRY(passkey_put_hash(out, ",\"hash\":", facts->model));
    TRY(json_put_int(out, ",\"parameters\":", facts->parameters));
    if (facts->trained_on > 0) {
        TRY(json_put_int(out, ",\"trained_on\":", facts->trained_on));
    } else {
        TRY(json_put(out, ",\"trained_on\":null"));
    }
    TRY(passkey_put_text(out, ",\"tokenizer\":", facts->tokenizer));
    TRY(json_put(out, "},\n\"task\":{"));
    if (facts->task != NULL) TRY(json_put(out, facts->task));
    TRY(passkey_put_text(out, "},\n\"run\":{\"backend\":", facts->backend));
    TRY(passkey_put_text(out, ",\"dtype\":", facts->dtype));
    TRY(json_put_int(out, ",\"ranks\":", facts->ranks));
    TRY(json_put_int(out, ",\"groups\":", facts->groups));
    TRY(json_put(out, facts->branched ? ",\"branched\":true" : ",\"branched\":false"));
    TRY(passkey_put_hash(out, ",\"settings\":", facts->settings));
    TRY(passkey_put_hash(out, ",\"numerics\":", facts->numerics));
    TRY(json_put_int(out, ",\"tokens_run\":", facts->tokens_run));
    TRY(json_put_int(out, ",\"tokens_plain\":", facts->tokens_plain));
    TRY(json_put_double(out, ",\"seconds\":", facts->seconds));
    TRY(json_put_double(out, ",\"tokens_per_second\":", facts->tokens_per_second));
    return json_put(out, "},\n");
}

static enum status put_share(struct passkey_tally share, struct bytes *out) {
    const struct passkey_interval interval = passkey_wilson(share);
    TRY(json_put_int(out, "\"n\":", share.n));
    TRY(json_put_int(out, ",\"correct\":", share.correct));
    TRY(json_put_double(out, ",\"accuracy\":", passkey_accuracy(share)));
    TRY(json_put_double(out, ",\"low\":", interval.low));
    return json_put_double(out, ",\"high\":", interval.high);
}

static enum status put_column(const struct passkey_column *column, struct bytes *out) {
    TRY(put_share(column->tally, out));
    TRY(json_put_int(out, ",\"exact\":", column->exact));
    TRY(json_put_double(out, ",\"answer_nll\":", column->answer_nll));
    TRY(json_put_double(out, ",\"margin\":", column->margin));
    return json_put(out, "}");
}

static enum status put_cells(const struct passkey_map *map, struct bytes *out) {
    const char *before = "\n{\"length\":";
    TRY(json_put(out, map->parts ? "],\n\"depths\":\"parts\",\n\"cells\":["
                                 : "],\n\"depths\":\"asked\",\n\"cells\":["));
    for (int64_t column = 0; column < map->lengths; column++) {
        for (int64_t row = 0; row < map->rows; row++) {
            TRY(json_put_int(out, before, map->column[column].length));
            TRY(json_put_short(out, ",\"depth\":", map->depth[row]));
            TRY(json_put(out, ","));
            TRY(put_share(passkey_map_cell(map, column, row), out));
            TRY(json_put(out, "}"));
            before = ",\n{\"length\":";
        }
    }
    return STATUS_OK;
}

static enum status put_last_k(const struct passkey_map *map, struct bytes *out) {
    int64_t k[PASSKEY_KS_MOST];
    const int count = passkey_last_ks(map, k);
    TRY(json_put(out, "],\n\"last_k\":["));
    for (int i = 0; i < count; i++) {
        const char *before = ",\"points\":[{\"length\":";
        TRY(json_put_int(out, i == 0 ? "\n{\"k\":" : ",\n{\"k\":", k[i]));
        for (int64_t column = 0; column < map->lengths; column++) {
            struct passkey_tally share;
            if (!passkey_last_k(map, k[i], column, &share)) continue;
            TRY(json_put_int(out, before, map->column[column].length));
            TRY(json_put(out, ","));
            TRY(put_share(share, out));
            TRY(json_put(out, "}"));
            before = ",{\"length\":";
        }
        TRY(json_put(out, "]}"));
    }
    return json_put(out, "]\n}\n");
}

enum status passkey_report_json(const struct passkey_report *report, const struct passkey_map *map,
                                struct bytes *out) {
    TRY(put_facts(report->facts, out));
    TRY(json_put(out, "\"all\":{"));
    TRY(put_column(&map->all, out));
    TRY(json_put(out, ",\n\"lengths\":["));
    for (int64_t i = 0; i < map->lengths; i++) {
        TRY(json_put_int(out,
                         i == 0 ? "\n{\"length\":" : ",\n{\"length\":", map->column[i].length));
        TRY(json_put(out, ","));
        TRY(put_column(&map->column[i], out));
    }
    TRY(put_cells(map, out));
    return put_last_k(map, out);
}

// A cell without samples has no accuracy, and says nothing about it.
enum status passkey_report_csv(const struct passkey_map *map, struct bytes *out) {
    TRY(json_put(out, "length,depth,n,correct,accuracy,low,high\n"));
    for (int64_t column = 0; column < map->lengths; column++) {
        for (int64_t row = 0; row < map->rows; row++) {
            const struct passkey_tally cell = passkey_map_cell(map, column, row);
            const struct passkey_interval interval = passkey_wilson(cell);
            TRY(json_put_int(out, "", map->column[column].length));
            TRY(json_put_short(out, ",", map->depth[row]));
            TRY(json_put_int(out, ",", cell.n));
            TRY(json_put_int(out, ",", cell.correct));
            if (cell.n > 0) {
                TRY(json_put_double(out, ",", passkey_accuracy(cell)));
                TRY(json_put_double(out, ",", interval.low));
                TRY(json_put_double(out, ",", interval.high));
                TRY(json_put(out, "\n"));
            } else {
                TRY(json_put(out, ",,,\n"));
            }
        }
    }
    return STATUS_OK;
}
