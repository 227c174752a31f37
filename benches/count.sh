#!/bin/sh
# Instructions and allocations of one decision, by valgrind: the difference between many and few of them. Unlike times
# these figures do not depend on what else the machine does.
set -eu
cd "$(dirname "$0")/.."
decisions=${*:-take/16-of-256 hints/64-on-8-numa merge/8-numa-3-providers merge/16-numa merge/64-numa
    admit/256cpu-8numa admit/4096cpu-64numa}
FEW=10
MANY=30

triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
bench() {
    env "CARGO_TARGET_${triple}_RUNNER=$1" cargo bench --quiet --locked -p trimtab-domain --bench placement -- --count "$2" "$3" 2>&1
}
instructions() {
    bench 'valgrind --tool=callgrind --callgrind-out-file=/dev/null' "$1" "$2" | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
allocations() {
    bench 'valgrind --tool=memcheck --leak-check=no --undef-value-errors=no' "$1" "$2" |
        sed -n 's/.*total heap usage: \([0-9,]*\) allocs.*/\1/p' | tr -d ,
}

printf '%-28s %14s %12s\n' decision instructions allocations
for name in $decisions; do
    i=$((($(instructions "$name" $MANY) - $(instructions "$name" $FEW)) / (MANY - FEW)))
    a=$((($(allocations "$name" $MANY) - $(allocations "$name" $FEW)) / (MANY - FEW)))
    printf '%-28s %14s %12s\n' "$name" "$i" "$a"
done
