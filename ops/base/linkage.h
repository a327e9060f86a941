#pragma once
// C linkage for headers that CUDA sources include too, and attributes both compilers take.

#ifdef __cplusplus
#    define C_BEGIN extern "C" {
#    define C_END   }
#else
#    define C_BEGIN
#    define C_END
#endif

#define PRINTF_LIKE(text_at, first_at) __attribute__((format(printf, text_at, first_at)))

// A status nobody looks at is a bug. clang checks the type; gcc 12 checks nothing here.
#if defined(__clang__) && !defined(__cplusplus)
#    define MUST_CHECK __attribute__((warn_unused_result))
#else
#    define MUST_CHECK
#endif
