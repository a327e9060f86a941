#pragma once
// The part of NCCL's C interface that is used here, loaded at run time: a plug-in that was built
// without NCCL's header uses a library that is there when it runs, and loads where there is none.
// Where the header is there, nccl_load.c compares.

#include "ops/base/linkage.h"

#include <stddef.h>

C_BEGIN

struct nccl_comm; // opaque, NCCL's

struct nccl_unique_id {
    char bytes[128];
};

enum { NCCL_SUCCESS = 0, NCCL_IN_PROGRESS = 7 }; // results; all others are failures
enum { NCCL_INT8 = 0 };                          // a data type: bytes

// The settings as of 2.18: a library takes shorter ones than its own and fills in the rest.
struct nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking, cga_cluster_size, min_ctas, max_ctas;
    const char *net_name;
    int split_share;
};
#define NCCL_MAGIC          0xcafebeefu
#define NCCL_CONFIG_VERSION 21805
#define NCCL_OLDEST         21800 // of the library
#define NCCL_UNSET_INT      (-0x7fffffff - 1)

struct nccl_api {
    int (*version)(int *version);
    int (*unique_id)(struct nccl_unique_id *id);
    int (*init)(struct nccl_comm **comm, int ranks, struct nccl_unique_id id, int rank,
                struct nccl_config *config);
    int (*finalize)(struct nccl_comm *comm);
    int (*destroy)(struct nccl_comm *comm);
    int (*abort)(struct nccl_comm *comm);
    int (*async_error)(struct nccl_comm *comm, int *error);
    int (*group_start)(void);
    int (*group_end)(void);
    int (*send)(const void *data, size_t count, int type, int peer, struct nccl_comm *comm,
                void *stream);
    int (*receive)(void *data, size_t count, int type, int peer, struct nccl_comm *comm,
                   void *stream);
    const char *(*error_text)(int result);
};

// libnccl.so.2, loaded once, for good. NULL: `why` says why not. Thread: any.
const struct nccl_api *nccl_load(char *why, size_t why_bytes);

C_END
