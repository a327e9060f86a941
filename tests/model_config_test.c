// Model configs: what is read, what absent fields mean, and what is refused by name.

#include "ops/model/config.h"

#include <math.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define CONFIG_HEAD "{\"model_type\":\"mamba2\",\"hidden_size\":8,\"num_hidden_layers\":2,"
#define CONFIG_TAIL \
    "\"state_size\":4,\"head_dim\":4,\"num_heads\":4,\"n_groups\":2,\"vocab_size\":10"
#define CONFIG CONFIG_HEAD CONFIG_TAIL

static enum status parse_config(const char *text, struct mamba2_config *config) {
    return config_parse("config.json", text, strlen(text), config);
}

static void configs_are_read(void **state) {
    (void)state;
    struct mamba2_config config;
    assert_int_equal(parse_config("{\"model_type\":\"mamba2\"}", &config), STATUS_OK);
    assert_int_equal(config.hidden_size, 4096);
    assert_int_equal(config.heads, 128);
    assert_int_equal(config.groups, 8);
    assert_int_equal(config.proj_width, 18560);
    assert_true(config.dt_least == 0 && isinf(config.dt_most) && config.use_conv_bias);
    assert_true(!config.tied && !config.tied_given && config.eos == 2);
    assert_int_equal(parse_config(CONFIG
                                  ",\"time_step_limit\":[0.001, 0.5],\"tie_word_embeddings\":true,"
                                  "\"eos_token_id\":[3,4],\"bos_token_id\":null,\"conv_kernel\":3,"
                                  "\"layer_norm_epsilon\":1e-6,\"unknown\":{\"x\":[NaN]},"
                                  "\"use_bias\":true,\"norm_before_gate\":true,\"chunk_size\":256,"
                                  "\"time_step_rank\":\"auto\",\"hidden_act\":\"swish\"}",
                                  &config),
                     STATUS_OK);
    assert_true(config.dt_least == 0.001 && config.dt_most == 0.5 && config.epsilon == 1e-6);
    assert_true(config.tied && config.tied_given && config.use_bias && !config.norm_before_gate);
    assert_true(config.eos == 3 && config.bos == -1 && config.d_conv == 3);
    assert_int_equal(config.d_inner, 16);
    assert_int_equal(config.conv_width, 32);
    assert_int_equal(config.proj_width, 52);
    assert_int_equal(
        parse_config(CONFIG ",\"time_step_limit\":[0,{\"__float__\":\"Infinity\"}]}", &config),
        STATUS_OK);
    assert_true(isinf(config.dt_most));
    // flash-linear-attention's names
    assert_int_equal(parse_config(CONFIG ",\"norm_eps\":1e-2,\"dt_limit\":[0.001,0.01]}", &config),
                     STATUS_OK);
    assert_true(config.epsilon == 1e-2 && config.dt_least == 0.001 && config.dt_most == 0.01);
    assert_int_equal(parse_config(CONFIG ",\"rmsnorm\":false}", &config), STATUS_MISMATCH);
}

#define ORIGINAL \
    "{\"d_model\":64,\"n_layer\":2,\"vocab_size\":50277,\"ssm_cfg\":{\"layer\":\"Mamba2\""

static void original_configs_are_read(void **state) {
    (void)state;
    struct mamba2_config config;
    assert_int_equal(parse_config(ORIGINAL "}}", &config), STATUS_OK);
    assert_int_equal(config.hidden_size, 64);
    assert_int_equal(config.layers, 2);
    assert_int_equal(config.heads, 2);
    assert_int_equal(config.head_dim, 64);
    assert_int_equal(config.d_state, 128);
    assert_int_equal(config.groups, 1);
    assert_int_equal(config.vocab_size, 50280); // MambaConfig pads to 8 if the file is silent
    assert_int_equal(config.vocab_unpadded, 50277);
    assert_true(config.tied && config.tied_given && config.use_conv_bias && !config.use_bias);
    assert_true(config.epsilon == 1e-5 && config.dt_least == 0 && isinf(config.dt_most));
    assert_true(config.bos == 0 && config.eos == 0 && config.pad == 0);
    assert_int_equal(
        parse_config(ORIGINAL ",\"d_state\":16,\"d_conv\":3,\"expand\":3,\"headdim\":24,"
                              "\"ngroups\":4,\"norm_before_gate\":true,\"bias\":true,"
                              "\"conv_bias\":false,\"dt_limit\":[0.01,Infinity],\"chunk_size\":64,"
                              "\"d_ssm\":null,\"D_has_hdim\":false,\"rmsnorm\":true},"
                              "\"tie_embeddings\":false,\"pad_vocab_size_multiple\":16,"
                              "\"attn_layer_idx\":[],\"attn_cfg\":{},\"d_intermediate\":0,"
                              "\"rms_norm\":true,\"fused_add_norm\":true}",
                     &config),
        STATUS_OK);
    assert_int_equal(config.heads, 8);
    assert_int_equal(config.d_conv, 3);
    assert_int_equal(config.conv_width, 192 + 2 * 4 * 16);
    assert_int_equal(config.norm_groups, 4);
    assert_int_equal(config.vocab_size, 50288);
    assert_true(config.norm_before_gate && config.use_bias && !config.use_conv_bias);
    assert_true(!config.tied && config.tied_given && config.dt_least == 0.01);
}

static void mistral_configs_are_read(void **state) {
    (void)state;
    struct mamba2_config config;
    assert_int_equal(parse_config("{\"dim\":4096,\"n_layers\":64,\"vocab_size\":32768,"
                                  "\"n_groups\":8,\"rms_norm\":true,\"residual_in_fp32\":true,"
                                  "\"fused_add_norm\":true,\"pad_vocab_size_multiple\":1,"
                                  "\"tie_embeddings\":false,\"model_type\":\"mamba\"}",
                                  &config),
                     STATUS_OK);
    assert_int_equal(config.proj_width, 18560);
    assert_int_equal(config.heads, 128);
    assert_int_equal(config.groups, 8);
    assert_int_equal(config.vocab_size, 32768);
    assert_true(!config.tied && config.tied_given && config.use_conv_bias);
}

static void norms_are_chosen(void **state) {
    (void)state;
    struct mamba2_config config;
    assert_int_equal(parse_config(CONFIG "}", &config), STATUS_OK);
    assert_true(config.norm_groups == 2 && !config.norm_before_gate);
    config_set_gated_norm(&config, gated_norm_of("whole"));
    assert_true(config.norm_groups == 1 && !config.norm_before_gate);
    config_set_gated_norm(&config, gated_norm_of("before-gate"));
    assert_true(config.norm_groups == 2 && config.norm_before_gate);
    config_set_gated_norm(&config, gated_norm_of("auto"));
    assert_true(config.norm_groups == 2 && config.norm_before_gate);
    config_set_gated_norm(&config, gated_norm_of("grouped"));
    assert_true(config.norm_groups == 2 && !config.norm_before_gate);
    config_set_gated_norm(&config, gated_norm_of(NULL));
    assert_true(!config.norm_before_gate);
}

static void bad_configs_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        CONFIG,
        CONFIG "}x",
        CONFIG_HEAD CONFIG_HEAD,
        "{\"model_type\":\"mamba\"}",
        "{\"model_type\":7}",
        "{\"d_model\":8,\"n_layer\":2,\"ssm_cfg\":{\"layer\":\"Mamba2\"}}", // no head of 64
        "{\"d_model\":64,\"n_layer\":2,\"ssm_cfg\":{}}",                    // Mamba-1
        "{\"d_model\":64,\"n_layer\":2}",
        "{\"d_model\":64,\"n_layer\":2,\"ssm_cfg\":{\"layer\":\"Mamba1\"}}",
        "{\"d_model\":64,\"ssm_cfg\":[]}",
        ORIGINAL "}",
        ORIGINAL ",\"rmsnorm\":false}}",
        ORIGINAL ",\"D_has_hdim\":true}}",
        ORIGINAL ",\"d_ssm\":64}}",
        ORIGINAL ",\"ngroups\":3}}",
        ORIGINAL ",\"headdim\":48}}",
        ORIGINAL ",\"expand\":0}}",
        ORIGINAL ",\"headdim\":1,\"expand\":64},\"d_model\":131072}", // 8 million heads
        ORIGINAL "},\"pad_vocab_size_multiple\":0}",
        ORIGINAL "},\"attn_layer_idx\":[1]}",
        ORIGINAL "},\"d_intermediate\":512}",
        "{\"dim\":64,\"n_layers\":2,\"n_groups\":3}",
        "{\"dim\":-64,\"n_layers\":2}",
        CONFIG ",\"hidden_act\":\"gelu\"}",
        CONFIG ",\"rms_norm\":false}",
        CONFIG ",\"attn_layer_idx\":[3]}",
        CONFIG ",\"d_intermediate\":64}",
        CONFIG ",\"quantization_config\":{\"bits\":4}}",
        CONFIG ",\"num_heads\":5}",
        CONFIG ",\"n_groups\":3}",
        CONFIG ",\"n_groups\":0}",
        CONFIG ",\"hidden_size\":-8}",
        CONFIG ",\"hidden_size\":8.5}",
        CONFIG ",\"hidden_size\":\"8\"}",
        CONFIG ",\"hidden_size\":9223372036854775807}",
        CONFIG ",\"num_hidden_layers\":1000000}",
        CONFIG ",\"vocab_size\":99999999999}",
        CONFIG ",\"conv_kernel\":1}",
        CONFIG ",\"expand\":NaN}",
        CONFIG ",\"layer_norm_epsilon\":0}",
        CONFIG ",\"layer_norm_epsilon\":Infinity}",
        CONFIG ",\"time_step_limit\":[0]}",
        CONFIG ",\"time_step_limit\":[0,1,2]}",
        CONFIG ",\"time_step_limit\":[1,0.5]}",
        CONFIG ",\"time_step_limit\":[-1,1]}",
        CONFIG ",\"time_step_limit\":[NaN,1]}",
        CONFIG ",\"time_step_limit\":[Infinity,Infinity]}",
        CONFIG ",\"time_step_limit\":[0,{\"x\":1}]}",
        CONFIG ",\"time_step_limit\":0.5}",
        CONFIG ",\"tie_word_embeddings\":\"yes\"}",
        CONFIG ",\"eos_token_id\":-5}",
        CONFIG ",\"bos_token_id\":10}",
    };
    struct mamba2_config config, untouched;
    memset(&config, 0x55, sizeof config);
    memset(&untouched, 0x55, sizeof untouched);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (parse_config(bad[i], &config) != STATUS_MISMATCH) fail_msg("taken: %s", bad[i]);
        assert_memory_equal(&config, &untouched, sizeof config);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configs_are_read),         cmocka_unit_test(original_configs_are_read),
        cmocka_unit_test(mistral_configs_are_read), cmocka_unit_test(norms_are_chosen),
        cmocka_unit_test(bad_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
