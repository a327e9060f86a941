#include "pipeline/libraries.h"

#include "pipeline/packing.h"

size_t pipeline_libraries(struct library *library, size_t most) {
    struct library all[7];
    size_t count = 0;
#ifdef LONGSCAN_WITH_MPI
    mpi_library(&all[count++]);
#endif
#ifdef LONGSCAN_WITH_KAFKA
    kafka_library(&all[count++]);
    codec_library(&all[count++]);
#endif
#ifdef LONGSCAN_WITH_BPE
    bpe_libraries(&all[count], &all[count + 1]);
    count += 2;
#endif
    packing_libraries(&all[count], &all[count + 1]);
    count += 2;
    for (size_t i = 0; i < count && i < most; i++) {
        library[i] = all[i];
    }
    return count;
}
