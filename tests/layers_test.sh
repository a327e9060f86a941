#!/bin/sh
# Fails on an #include that points the wrong way between folders, on a library's header outside its
# home, and on a header that does not compile by itself. Argument: the source tree's root.
cd "${1:-.}" || exit 2
compiler=${CC:-cc}

sources() { # of a folder
    find "$1" \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.inc' \) -print
}

# An #include of ours that stands in a folder, where it may not. $1: folder; $2: what it may include.
ours() {
    sources "$1" | while read -r file; do
        grep -nE '^ *# *include +"(ops|cuda|pipeline|src|proto|tests)/' "$file" |
            grep -vE "include +\"($2)/" | sed "s|^|$file:|"
    done
}

# A library's header outside its home. $1: the header's beginning; $2: files it may stand in.
home() {
    for folder in ops cuda pipeline src; do
        sources "$folder"
    done | while read -r file; do
        grep -nE "^ *# *include +[<\"]($1)" "$file" | sed "s|^|$file:|"
    done | grep -vE "^($2)"
}

bad=$(
    ours ops 'ops'
    ours ops/base 'ops/base'
    ours cuda 'ops|cuda'
    ours pipeline 'ops|pipeline|proto'
    ours src 'ops|pipeline|src|proto|cuda'
    # the operators and the model know each other through ops/*.h only
    for folder in ops/cpu ops/ref; do
        sources "$folder" | xargs -r grep -HnE '^ *# *include +"ops/model/'
    done
    sources src | xargs -r grep -HnE '^ *# *include +"cuda/' | grep -v '^src/plugin_find.h:.*"cuda/plugin.h"'
    sources pipeline | xargs -r grep -HnE '^ *# *include +"ops/(cpu|ref)/'
    home 'mpi\.h' 'pipeline/mpi_'
    home 'librdkafka' '(pipeline/kafka_|src/broker\.c)'
    home '(protobuf-c|proto/)' 'pipeline/codec'
    home '(cuda_|cuda\.h|cublas|cub/|nccl|nvml)' 'cuda/'
    home '(zlib|zstd)' 'pipeline/packing'
    home '(pcre2|utf8proc)' 'pipeline/bpe_'
    home 'xxh' '(ops/(base|model)|pipeline)/'
)
status=0
if [ -n "$bad" ]; then
    echo "includes that point the wrong way:"
    echo "$bad"
    status=1
fi

# Headers of what may not be installed here are left to the build that has it.
probe() { # a header
    echo "#include <$1>" | "$compiler" -fsyntax-only -xc - >/dev/null 2>&1
}
checked=0
skipped=0
headers=$(find ops pipeline src cuda tests -name '*.h')
for header in $headers; do
    needs=$(grep -hoE '^ *# *include +[<"](mpi\.h|cuda_runtime[^>]*|librdkafka/[^>]*|protobuf-c/[^>]*|proto/[^"]*)' \
        "$header" | sed 's/.*[<"]//')
    case $header in ops/cpu/simd*) continue ;; esac # one instruction set's share of simd.h each
    missing=0
    for need in $needs; do
        probe "$need" || missing=1
    done
    case $header in cuda/plugin.h) ;; cuda/*) probe cuda_runtime_api.h || missing=1 ;; esac
    if [ $missing -eq 1 ]; then
        skipped=$((skipped + 1))
        continue
    fi
    # Twice, so that a forgotten #pragma once shows too.
    if ! said=$(printf '#include "%s"\n#include "%s"\n' "$header" "$header" | "$compiler" -std=c17 \
        -D_POSIX_C_SOURCE=200809L -DTESTS_FOLDER='"tests"' -fsyntax-only -Wall -Wextra -Werror -I. -xc - 2>&1); then
        echo "$header does not compile by itself:"
        echo "$said" | head -5
        status=1
    fi
    checked=$((checked + 1))
done
echo "layers: $checked headers compile alone, $skipped need what is not installed"
exit $status
