#!/bin/sh
# All that cuda_nccl_check knows, on two GPUs of this machine; on one what can be seen there. $1: the program. 77: there are none.
check=$1
ranks() { # how it must end, then its arguments
    want=$1
    shift
    timeout 120 mpirun --allow-run-as-root -n 2 "$check" "$@"
    got=$?
    [ $got -eq 77 ] && exit 77
    if [ $got -ne "$want" ]; then
        echo "cuda_nccl_check $*: exit code $got, not $want"
        exit 1
    fi
}
command -v mpirun >/dev/null || exit 77
ranks 0 staged 20 48
ranks 0 ring 200 48
NCCL_P2P_DISABLE=1 NCCL_SHM_DISABLE=1 ranks 0 ring 20 48
ranks 142 silent 20 48
ranks 142 late 20 48
ranks 0 hops
