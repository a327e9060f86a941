// References of the convolution and of what it leaves to the next span.
#include "ops/ref/ref.h"

// The raw input `row` rows behind the span's first, which may lie before it: then it comes from
// state_in's convolution part, and is zero if there is none.
static double input_at(const struct conv_args *args, const struct scan_span *span, int64_t row,
                       int64_t channel) {
    if (row >= 0) {
        return (double)args->in.data[(span->row + row) * args->in.stride + channel];
    }
    if (span->state_in == NULL) return 0.0;
    const char *layer = span->state_in + args->batch.layer * span->in_layer_bytes;
    const float *tail = (const float *)(const void *)(layer + args->batch.conv_offset);
    return (double)tail[(args->d_conv - 1 + row) * args->in.columns + channel];
}

void ref_conv_tail(const struct conv_args *args) {
    const int64_t width = args->in.columns;
    const int64_t kept = args->d_conv - 1;
    for (int64_t s = 0; s < args->batch.spans; s++) {
        const struct scan_span *span = &args->batch.span[s];
        if (span->state_out == NULL) continue;
        char *layer = span->state_out + args->batch.layer * span->out_layer_bytes;
        float *tail = (float *)(void *)(layer + args->batch.conv_offset);
        for (int64_t j = 0; j < kept; j++) {
            for (int64_t c = 0; c < width; c++) {
                tail[j * width + c] = (float)input_at(args, span, span->rows - kept + j, c);
            }
        }
    }
}

void ref_causal_conv(const struct conv_args *args) {
    for (int64_t s = 0; s < args->batch.spans; s++) {
        const struct scan_span *span = &args->batch.span[s];
        for (int64_t t = 0; t < span->rows; t++) {
            float *out = args->out.data + (span->row + t) * args->out.stride;
            for (int64_t c = 0; c < args->in.columns; c++) {
                double sum = args->bias == NULL ? 0.0 : (double)args->bias[c];
                for (int64_t j = 0; j < args->d_conv; j++) {
                    sum += (double)args->weight[c * args->d_conv + j] *
                           input_at(args, span, t - (args->d_conv - 1) + j, c);
                }
                out[c] = (float)ref_silu(sum);
            }
        }
    }
}
