#include "cuda/nccl_api.h"
#include "ops/base/log.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_include)
#    if __has_include(<nccl.h>) && __has_include(<cuda_runtime.h>) // which it includes
#        include <nccl.h>
_Static_assert(sizeof(struct nccl_unique_id) == sizeof(ncclUniqueId), "an id");
_Static_assert(NCCL_SUCCESS == (int)ncclSuccess && NCCL_IN_PROGRESS == (int)ncclInProgress,
               "results");
_Static_assert(NCCL_INT8 == (int)ncclInt8, "a type");
_Static_assert(offsetof(struct nccl_config, max_ctas) == offsetof(ncclConfig_t, maxCTAs) &&
                   offsetof(struct nccl_config, split_share) == offsetof(ncclConfig_t, splitShare),
               "settings");
#    endif
#endif

static struct nccl_api api;
static char obstacle[256]; // why there is none; empty: there is
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void) {
    const struct {
        const char *name;
        void *slot;
    } symbols[] = {
        {"ncclGetVersion",         &api.version    },
        {"ncclGetUniqueId",        &api.unique_id  },
        {"ncclCommInitRankConfig", &api.init       },
        {"ncclCommFinalize",       &api.finalize   },
        {"ncclCommDestroy",        &api.destroy    },
        {"ncclCommAbort",          &api.abort      },
        {"ncclCommGetAsyncError",  &api.async_error},
        {"ncclGroupStart",         &api.group_start},
        {"ncclGroupEnd",           &api.group_end  },
        {"ncclSend",               &api.send       },
        {"ncclRecv",               &api.receive    },
        {"ncclGetErrorString",     &api.error_text },
    };
    int version = 0;
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *said = dlerror();
        snprintf(obstacle, sizeof obstacle, "%s", said != NULL ? said : "libnccl.so.2 is missing");
        return;
    }
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (symbol == NULL) {
            snprintf(obstacle, sizeof obstacle, "libnccl.so.2 has no %s", symbols[i].name);
            return;
        }
        memcpy(symbols[i].slot, &symbol, sizeof symbol); // POSIX's way to a function's pointer
    }
    // Only sends and receives are used; memory for multicast would be for nothing.
    (void)setenv("NCCL_NVLS_ENABLE", "0", 0);
    if (api.version(&version) != NCCL_SUCCESS || version < NCCL_OLDEST) {
        snprintf(obstacle, sizeof obstacle,
                 "libnccl.so.2 is version %d, %d is the oldest that does", version, NCCL_OLDEST);
        return;
    }
    LOG(DEBUG, "nccl: version %d", version);
}

const struct nccl_api *nccl_load(char *why, size_t why_bytes) {
    pthread_once(&once, load);
    if (obstacle[0] == '\0') return &api;
    snprintf(why, why_bytes, "%.*s", (int)why_bytes - 1, obstacle);
    return NULL;
}
