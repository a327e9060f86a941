// Any bytes as a config.json: what is taken must be a model whose sizes fit each other.

#include "ops/model/config.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

static void check(bool condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mamba2_config config;
    if (config_parse("fuzz", (const char *)data, size, &config) != STATUS_OK) return 0;
    check(config.hidden_size > 0 && config.layers > 0 && config.vocab_size > 0);
    check(config.d_state > 0 && config.head_dim > 0 && config.d_conv > 1);
    check(config.vocab_unpadded > 0 && config.vocab_unpadded <= config.vocab_size);
    check(config.norm_groups == config.groups);
    check(config.heads > 0 && config.groups > 0 && config.heads % config.groups == 0);
    check(config.d_inner == config.heads * config.head_dim);
    check(config.proj_width == config.d_inner + config.conv_width + config.heads);
    check(config.dt_least >= 0 && config.dt_most >= config.dt_least);
    check(config.epsilon > 0 && config.bos >= -1 && config.eos >= -1 && config.pad >= -1);
    return 0;
}
