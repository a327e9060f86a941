# longscan_target(NAME): the flags every C target of ours gets. Flags that change results (no
# contraction of a * b + c) live here, never only in a preset.
function(longscan_target name)
  target_compile_definitions(${name} PRIVATE _POSIX_C_SOURCE=200809L _FILE_OFFSET_BITS=64)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:C>:-ffp-contract=off -fno-math-errno
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wdouble-promotion -Wstrict-prototypes
    -Wmissing-prototypes -Wold-style-definition -Wvla -Wformat=2 -Wundef -Wcast-qual
    -Wwrite-strings -Wpointer-arith -Wswitch-enum -Wimplicit-fallthrough -fno-common>)
  if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:C>:-Wcast-align=strict -Wlogical-op
      -Wduplicated-cond -Wduplicated-branches -Wjump-misses-init>)
  else()
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:C>:-Wcast-align>)
  endif()
  if(LONGSCAN_FUZZ) # the fuzzers are guided by the code they reach, so all of it is instrumented
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link,address,undefined
      -fno-sanitize-recover=undefined) # or a fuzzer would not see it
    target_link_options(${name} PUBLIC -fsanitize=address,undefined)
  endif()
  if(LONGSCAN_WERROR)
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:C>:-Werror>)
  endif()
  target_compile_options(${name} PRIVATE
    $<$<AND:$<COMPILE_LANGUAGE:C>,$<CONFIG:Release>>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong>)
endfunction()
