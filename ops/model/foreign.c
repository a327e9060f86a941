#include "ops/model/foreign.h"

#include <string.h>

#define HYBRID "a hybrid with attention layers"

static const struct {
    const char *type, *what;
} types[] = {
    {"mamba",            "Mamba-1"               },
    {"falcon_mamba",     "Mamba-1"               },
    {"jamba",            HYBRID                  },
    {"bamba",            HYBRID                  },
    {"zamba",            HYBRID                  },
    {"zamba2",           HYBRID                  },
    {"falcon_h1",        HYBRID                  },
    {"nemotron_h",       HYBRID                  },
    {"granitemoehybrid", HYBRID                  },
    {"plamo2",           HYBRID                  },
    {"recurrent_gemma",  HYBRID                  },
    {"qwen3_next",       HYBRID                  },
    {"rwkv",             "RWKV"                  },
    {"rwkv5",            "RWKV"                  },
    {"rwkv6",            "RWKV"                  },
    {"rwkv7",            "RWKV"                  },
    {"gla",              "gated linear attention"},
    {"hgrn2",            "HGRN2"                 },
    {"retnet",           "RetNet"                },
    {"delta_net",        "DeltaNet"              },
    {"gated_deltanet",   "Gated DeltaNet"        },
};

static const struct {
    const char *part, *what;
} parts[] = {
    {".x_proj.",       "Mamba-1 layers"                       },
    {".dt_proj.",      "Mamba-1 layers"                       },
    {".Wqkv.",         "attention layers"                     },
    {".q_proj.",       "attention layers"                     },
    {".self_attn.",    "attention layers"                     },
    {".attention.",    "attention layers"                     },
    {".att.",          "RWKV blocks"                          },
    {".ffn.",          "MLP blocks"                           },
    {".mlp.",          "MLP blocks"                           },
    {".feed_forward.", "MLP blocks"                           },
    {".experts.",      "a mixture of experts"                 },
    {".lora_A",        "an adapter (LoRA), to be merged first"},
    {".qweight",       "quantised weights"                    },
    {".weight_scale",  "quantised weights"                    },
    {".absmax",        "quantised weights"                    },
    {".quant_state",   "quantised weights"                    },
    {".SCB",           "quantised weights"                    },
    {".init_states",   "learned initial states"               },
};

const char *foreign_model_type(const char *type, size_t bytes) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strlen(types[i].type) == bytes && memcmp(types[i].type, type, bytes) == 0) {
            return types[i].what;
        }
    }
    return NULL;
}

enum status foreign_tensors(const struct tensors *tensors) {
    for (int64_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = &tensors->items[i];
        for (size_t part = 0; part < sizeof parts / sizeof parts[0]; part++) {
            if (strstr(tensor->name, parts[part].part) == NULL) continue;
            return FAIL(MISMATCH,
                        "%s: tensor %.200s: the model has %s; only plain Mamba-2 models are "
                        "supported",
                        tensor->path, tensor->name, parts[part].what);
        }
    }
    return STATUS_OK;
}
