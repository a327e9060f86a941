#pragma once
// Kernels of one queue that overlap (programmatic dependent launch): while the last blocks of a
// kernel work, the next one's begin on the multiprocessors that are free, set up what is their own,
// and wait.
//
// A kernel that launch_overlapped() starts may begin when every block of the kernel before it has
// begun and called take_turn(), or has ended. All its threads call take_turn(), before they first
// touch global memory that the queue writes (not weights, not kernel arguments, tensor maps among them)
// and before they first wait for anything with a deadline. Then the order is that of any queue:
//
//   - A thread returns from take_turn() when the kernel before its own has ended and all that it wrote
//     can be seen. That one ended only after its own threads had returned from take_turn(), so the
//     kernel before it had ended, too; and so on: behind take_turn() all that was queued earlier is
//     done. This holds for what is read and for what others may still have been reading: a ticket that
//     a kernel sets back as it ends, or that an earlier kernel sets back, is touched behind it only.
//   - Copies, events, host calls and kernels launched in the ordinary way wait for the end of the kernel
//     before them, and so for everything. The kernel behind such an item begins when the item is done.
//   - Blocks that wait hold shared memory and registers, but blocks of an earlier kernel never need them:
//     all of those have begun. Blocks of one kernel never wait for blocks that have not begun.
//
// LONGSCAN_OVERLAP=0 builds the same without overlap, to compare. For files compiled for sm_90a only.

#include <cuda_runtime.h>

#ifndef LONGSCAN_OVERLAP
#    define LONGSCAN_OVERLAP 1
#endif

__device__ __forceinline__ void take_turn() {
#if LONGSCAN_OVERLAP && defined(__CUDA_ARCH_FEAT_SM90_ALL)
    asm volatile("griddepcontrol.launch_dependents;\n"
                 "griddepcontrol.wait;" ::
                     : "memory");
#endif
}

template <class... Wanted, class... Given>
inline cudaError_t launch_overlapped(void (*kernel)(Wanted...), dim3 grid, unsigned threads,
                                     size_t shared_bytes, cudaStream_t stream, Given &&...args) {
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = LONGSCAN_OVERLAP;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Given &&>(args)...);
}
