// What `longscan info` says: one JSON object, or a page for people.

#include "pipeline/json_put.h"
#include "src/info.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define MIB 1048576.0

static enum status put_shape(struct bytes *out, const struct mamba2_config *c) {
    const struct {
        const char *before;
        int64_t value;
    } counts[] = {
        {",\"hidden_size\":", c->hidden_size},
        {",\"layers\":",      c->layers     },
        {",\"heads\":",       c->heads      },
        {",\"head_dim\":",    c->head_dim   },
        {",\"d_state\":",     c->d_state    },
        {",\"groups\":",      c->groups     },
        {",\"d_conv\":",      c->d_conv     },
        {",\"vocab_size\":",  c->vocab_size },
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        TRY(json_put_int(out, counts[i].before, counts[i].value));
    }
    return json_put(out, c->tied ? ",\"tied\":true" : ",\"tied\":false");
}

static enum status put_bytes(struct bytes *out, const struct info *info) {
    TRY(json_put_int(out, ",\"bytes\":{\"f32\":", 4 * info->parameters));
    TRY(json_put_int(out, ",\"bf16\":", 2 * info->parameters));
    TRY(json_put_int(out, ",\"f16\":", 2 * info->parameters));
    if (!info->files) return json_put(out, "}");
    TRY(json_put_int(out, ",\"disk\":", info->disk_bytes));
    TRY(json_put(out, "},\"stored\":{"));
    const char *comma = "";
    for (int dtype = 0; dtype < DTYPE_OTHER; dtype++) {
        if (info->stored[dtype] == 0) continue;
        char before[24];
        snprintf(before, sizeof before, "%s\"%s\":", comma, dtype_name((enum dtype)dtype));
        TRY(json_put_int(out, before, info->stored[dtype]));
        comma = ",";
    }
    return json_put(out, "}");
}

static enum status put_state(struct bytes *out, const struct info *info) {
    const int64_t layers = info->config.layers;
    TRY(json_put_int(out, ",\"state\":{\"ssm_bytes_layer\":", info->ssm_bytes));
    TRY(json_put_int(out, ",\"conv_bytes_layer\":", info->conv_bytes));
    TRY(json_put_int(out, ",\"ssm_bytes\":", layers * info->ssm_bytes));
    TRY(json_put_int(out, ",\"conv_bytes\":", layers * info->conv_bytes));
    return json_put_int(out, ",\"bytes\":", layers * (info->ssm_bytes + info->conv_bytes));
}

static enum status put_work(struct bytes *out, const struct info *info) {
    TRY(json_put_double(out, "},\"flops_per_token\":{\"projections\":", info->projections));
    TRY(json_put_double(out, ",\"convolution\":", info->convolution));
    TRY(json_put_double(out, ",\"scan\":", info->scan));
    TRY(json_put_double(out, ",\"head\":", info->head));
    return json_put_double(
        out, ",\"total\":", info->projections + info->convolution + info->scan + info->head);
}

static enum status put_length(struct bytes *out, const char *before, double tokens) {
    if (tokens > 0 && isfinite(tokens)) return json_put_double(out, before, round(tokens));
    TRY(json_put(out, before));
    return json_put(out, "null");
}

static enum status put_capacity(struct bytes *out, const struct capacity *capacity) {
    char range[48];
    TRY(json_put_double(out, "},\"capacity\":{\"million_floats\":", capacity->floats));
    TRY(put_length(out, ",\"forget_tokens\":", capacity->forget));
    TRY(put_length(out, ",\"recall_tokens\":", capacity->recall));
    snprintf(range, sizeof range, ",\"fitted\":[%g,%g]", LAW_FLOATS_LEAST, LAW_FLOATS_MOST);
    TRY(json_put(out, range));
    TRY(json_put(out,
                 capacity->fitted ? ",\"in_fitted_range\":true" : ",\"in_fitted_range\":false"));
    return json_put(out, capacity->kindred ? ",\"fitted_head_shape\":true"
                                           : ",\"fitted_head_shape\":false");
}

static enum status put_all(struct bytes *out, const struct info *info) {
    char hash[32];
    TRY(json_put_string(out, "{\"model\":", info->name, strlen(info->name)));
    if (info->files) {
        snprintf(hash, sizeof hash, "xxh3:%016" PRIx64, info->hash);
        TRY(json_put_string(out, ",\"hash\":", hash, strlen(hash)));
    }
    TRY(json_put_int(out, ",\"parameters\":", info->parameters));
    TRY(json_put_int(out, ",\"non_embedding\":", info->parameters - info->embedding));
    TRY(put_shape(out, &info->config));
    TRY(put_bytes(out, info));
    TRY(put_state(out, info));
    TRY(put_work(out, info));
    TRY(put_capacity(out, &info->capacity));
    TRY(json_put_string(out, "},\"tokenizer\":", info->tokenizer, strlen(info->tokenizer)));
    for (int32_t i = 0; i < info->unusual_count; i++) {
        TRY(json_put_string(out, i == 0 ? ",\"unusual\":[" : ",", info->unusual[i],
                            strlen(info->unusual[i])));
    }
    return json_put(out, info->unusual_count == 0 ? ",\"unusual\":[]}\n" : "]}\n");
}

// ---- for people

static void table_shape(FILE *out, const struct info *info) {
    const struct mamba2_config *c = &info->config;
    fprintf(out, "%s%s\n", info->name, info->files ? "" : ", an official shape");
    fprintf(out, "  %-12s %.1f million, %.1f without the embedding\n", "parameters",
            (double)info->parameters * 1e-6, (double)(info->parameters - info->embedding) * 1e-6);
    fprintf(out,
            "  %-12s %" PRId64 " layers of %" PRId64 ", %" PRId64 " heads of %" PRId64
            ", d_state %" PRId64 ", %" PRId64 " tokens in the vocabulary\n",
            "shape", c->layers, c->hidden_size, c->heads, c->head_dim, c->d_state, c->vocab_size);
    fprintf(out, "  %-12s %.1f MiB in f32, %.1f in bf16 or f16", "weights",
            4 * (double)info->parameters / MIB, 2 * (double)info->parameters / MIB);
    if (info->files) fprintf(out, "; %.1f on disk, in", (double)info->disk_bytes / MIB);
    for (int dtype = 0; dtype < DTYPE_OTHER; dtype++) {
        if (info->stored[dtype] > 0) fprintf(out, " %s", dtype_name((enum dtype)dtype));
    }
    fprintf(out, "\n  %-12s %s\n", "tokenizer", info->tokenizer);
}

static void table_state(FILE *out, const struct info *info) {
    const int64_t ssm = info->ssm_bytes, conv = info->conv_bytes, layers = info->config.layers;
    const double total = info->projections + info->convolution + info->scan + info->head;
    fprintf(out,
            "\nstate of a sequence, f32 %10s %12s %12s\n  %-24s %10" PRId64 " %12" PRId64
            " %12" PRId64 "  bytes\n  %-24s %10" PRId64 " %12" PRId64 " %12" PRId64 "\n",
            "SSM", "convolution", "together", "a layer, as handed over", ssm, conv, ssm + conv,
            "all layers", layers * ssm, layers * conv, layers * (ssm + conv));
    fprintf(out,
            "\nwork of a token, MFLOP: %.1f, of which projections %.1f, convolution %.1f, scan "
            "%.1f, head %.1f\n",
            total * 1e-6, info->projections * 1e-6, info->convolution * 1e-6, info->scan * 1e-6,
            info->head * 1e-6);
}

static void table_law(FILE *out, const char *what, double tokens, const char *meaning) {
    if (tokens > 0 && isfinite(tokens)) {
        fprintf(out, "  %-10s %12.0f tokens   %s\n", what, tokens, meaning);
    } else {
        fprintf(out, "  %-10s %12s          %s\n", what, "nothing", meaning);
    }
}

static void table_capacity(FILE *out, const struct capacity *capacity) {
    fprintf(out, "\nwhat a state of %.2f million floats can do, by the laws of \"Stuffed Mamba\"\n",
            capacity->floats);
    table_law(out, "T_forget", capacity->forget, "least training length to forget in time");
    table_law(out, "T_recall", capacity->recall, "longest context with passkeys found, 95%");
    if (!capacity->fitted) {
        fprintf(out, "  outside the fitted range, %g to %g million floats: do not rely on it%s\n",
                LAW_FLOATS_LEAST, LAW_FLOATS_MOST,
                capacity->floats > LAW_FLOATS_MOST ? " (780m was found to need more than 128k)"
                                                   : "");
    }
    if (!capacity->kindred) {
        fputs("  fitted to models with d_state 128 and head_dim 64, which this is not\n", out);
    }
}

enum status info_say(const struct info *info, const struct measure_out *out) {
    struct bytes text = {0};
    if (out->table) {
        table_shape(out->file, info);
        table_state(out->file, info);
        table_capacity(out->file, &info->capacity);
        for (int32_t i = 0; i < info->unusual_count; i++) {
            fprintf(out->file, "%s  %s\n", i == 0 ? "\nunlike the official models\n" : "",
                    info->unusual[i]);
        }
        return STATUS_OK;
    }
    const enum status status = put_all(&text, info);
    if (status == STATUS_OK) fwrite(text.data, 1, text.count, out->file);
    bytes_free(&text);
    return status;
}
