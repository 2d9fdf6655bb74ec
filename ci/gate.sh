#!/usr/bin/env bash
# Traces a command and checks its memory. Everything is told by variables, so that it runs in any CI and in a shell:
#
#   PYALLOC_COMMAND          one command, as a shell reads it; what it becomes is a Python      (needed)
#   PYALLOC                  the binary                       [this checkout's release build, the one beside ci/, or in PATH]
#   PYALLOC_BASELINE         folder with baseline-*.pyalloc                                [.pyalloc-baseline]
#   PYALLOC_RUNS             how often to run the command                                  [1]
#   PYALLOC_OUT              folder for what is made                                       [pyalloc-out]
#   PYALLOC_TRACE_ARGUMENTS, PYALLOC_CHECK_ARGUMENTS   more arguments, as a shell reads them
#
# It ends with the command's exit code if that fails, with 1 if a limit is exceeded, with 3 if nothing can be traced here.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
out=${PYALLOC_OUT:-pyalloc-out}
baseline=${PYALLOC_BASELINE:-.pyalloc-baseline}
runs=${PYALLOC_RUNS:-1}
pyalloc=${PYALLOC:-}
for candidate in "$here/target/release/pyalloc" "$here/pyalloc" "$(command -v pyalloc)"; do
    [ -n "$pyalloc" ] || [ ! -x "$candidate" ] || pyalloc=$candidate
done
[ -n "$pyalloc" ] || { echo "no pyalloc: give its path by PYALLOC" >&2; exit 2; }
: "${PYALLOC_COMMAND:?the command to trace}"

# sudo cleans the environment, which tests may need; pyalloc itself runs the command as the user who called sudo.
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo --preserve-env env "PATH=$PATH")

mkdir -p "$out"
rm -f "$out"/run-*.pyalloc
eval "command=($PYALLOC_COMMAND)"
eval "trace_arguments=(${PYALLOC_TRACE_ARGUMENTS:-})"
eval "check_arguments=(${PYALLOC_CHECK_ARGUMENTS:-})"
for number in $(seq "$runs"); do
    "${as_root[@]}" "$pyalloc" trace --quiet -o "$out/run-$number.pyalloc" "${trace_arguments[@]}" -- "${command[@]}"
done

say() { [ -z "${GITHUB_OUTPUT:-}" ] || echo "status=$1" >>"$GITHUB_OUTPUT"; }
shopt -s nullglob
baselines=("$baseline"/*.pyalloc)
arguments=("${check_arguments[@]}")
if [ ${#baselines[@]} -gt 0 ]; then
    arguments+=(--baseline "${baselines[@]}" --flamegraph "$out/difference.svg")
elif [ ${#check_arguments[@]} -eq 0 ] && [ ! -f pyalloc.toml ]; then
    echo "no baseline in $baseline, and no limits: nothing to check against yet"
    say none
    exit 0
fi

status=0
"$pyalloc" check "$out"/run-*.pyalloc --junit "$out/memory.xml" --sarif "$out/memory.sarif" \
    --markdown "$out/memory.md" "${arguments[@]}" || status=$?
case $status in
    0) say passed ;;
    1) say failed ;;
    *) exit "$status" ;;
esac
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$out/memory.md" >>"$GITHUB_STEP_SUMMARY"
exit "$status"
