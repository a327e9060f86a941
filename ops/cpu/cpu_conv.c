// The convolution over time, and what it leaves to the span that follows.

#include "ops/cpu/kernels.h"

#include <string.h>

// Channels a worker takes at a time: a row of them is one page-sized run of memory, and 130m's
// 1,792 channels make 7 equal blocks.
#define CONV_CHANNELS 256

struct conv_job {
    const struct conv_args *args;
    const struct scan_kernels *kernels;
    const float *taps; // [d_conv, conv_width]
    int64_t blocks;    // of channels
};

// The convolution part of the state a span starts from, [d_conv - 1, conv_width]; NULL for zero.
static const float *conv_tail_in(const struct conv_args *args, const struct scan_span *span) {
    if (span->state_in == NULL) return NULL;
    const char *layer = span->state_in + args->batch.layer * span->in_layer_bytes;
    return (const float *)(const void *)(layer + args->batch.conv_offset);
}

enum status cpu_conv_tail(struct backend *backend, const struct conv_args *args) {
    (void)backend; // copies a few rows: not worth the team
    const int64_t width = args->in.columns;
    const int64_t kept = args->d_conv - 1;
    const size_t row_bytes = (size_t)width * sizeof(float);
    for (int64_t s = 0; s < args->batch.spans; s++) {
        const struct scan_span *span = &args->batch.span[s];
        if (span->state_out == NULL) continue;
        const float *before = conv_tail_in(args, span);
        char *layer = span->state_out + args->batch.layer * span->out_layer_bytes;
        float *tail = (float *)(void *)(layer + args->batch.conv_offset);
        for (int64_t j = 0; j < kept; j++) {
            const int64_t row = span->rows - kept + j;
            float *to = tail + j * width;
            if (row >= 0) {
                memcpy(to, args->in.data + (span->row + row) * args->in.stride, row_bytes);
            } else if (before != NULL) {
                memcpy(to, before + (kept + row) * width, row_bytes);
            } else {
                memset(to, 0, row_bytes);
            }
        }
    }
    return STATUS_OK;
}

static void conv_block(int64_t index, int64_t worker, const void *argument) {
    (void)worker;
    const struct conv_job *job = argument;
    const struct conv_args *args = job->args;
    const struct scan_tile *tile = &args->batch.tile[index / job->blocks];
    const struct scan_span *span = &args->batch.span[tile->span];
    const float *tail = conv_tail_in(args, span);
    const int64_t channel = index % job->blocks * CONV_CHANNELS;
    const int64_t rest = args->in.columns - channel;
    const struct conv_part part = {
        .in = args->in.data + tile->row * args->in.stride + channel,
        .in_stride = args->in.stride,
        .before = tile->row - span->row,
        .tail = tail == NULL ? NULL : tail + channel,
        .tail_stride = args->in.columns,
        .taps = job->taps + channel,
        .taps_stride = args->in.columns,
        .d_conv = args->d_conv,
        .bias = args->bias == NULL ? NULL : args->bias + channel,
        .out = args->out.data + tile->row * args->out.stride + channel,
        .out_stride = args->out.stride,
        .rows = tile->rows,
        .channels = rest < CONV_CHANNELS ? rest : CONV_CHANNELS,
    };
    job->kernels->conv(&part);
}

enum status cpu_causal_conv(struct backend *backend, const struct conv_args *args) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    const int64_t width = args->in.columns;
    void *memory = NULL;
    TRY(cpu_scratch(cpu, (size_t)(width * args->d_conv) * sizeof(float), &memory));
    float *taps = memory;
    for (int64_t c = 0; c < width; c++) {
        for (int64_t j = 0; j < args->d_conv; j++) {
            taps[j * width + c] = args->weight[c * args->d_conv + j];
        }
    }
    const struct conv_job job = {
        .args = args,
        .kernels = cpu->kernels->scan,
        .taps = taps,
        .blocks = (width + CONV_CHANNELS - 1) / CONV_CHANNELS,
    };
    team_run(cpu->team, args->batch.tiles * job.blocks, conv_block, &job);
    return STATUS_OK;
}
