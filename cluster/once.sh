#!/usr/bin/env bash
# usage: once.sh COMMAND...   with output_dir=FOLDER among its arguments
# Runs a sweep whose end is not to be tried again. KubeRay tries a job again whatever the driver's
# status was, with a new cluster each time; 1 (some jobs failed) and 2 (bad input) would only be said
# again. So they leave a mark, and the next try ends at once with the same status, before any GPU
# machine is asked for. A mark counts for half an hour: whoever mends something and applies the job
# anew is held up for no longer, and not at all after removing it.
set -euo pipefail

mark=
for argument in "$@"; do
  case $argument in output_dir=*) mark=${argument#output_dir=}/.ended ;; esac
done
: "${mark:?once.sh needs output_dir=FOLDER}"

if [ -n "$(find "$mark" -mmin -30 2>/dev/null)" ]; then
  status=$(<"$mark")
  echo "oneshui: an earlier try ended with status $status, and another would too; after mending" \
    "what its log says, remove $mark and apply the job again" >&2
  exit "$status"
fi

status=0
"$@" || status=$?
rm -f "$mark"
case $status in
  1 | 2)
    mkdir -p "${mark%/*}"
    echo "$status" >"$mark"
    ;;
esac
exit "$status"
