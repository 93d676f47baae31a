#!/usr/bin/env bash
# Ends a worker whose cluster is gone. When a head dies, its workers' raylets exit after about a
# minute, and nobody is left to end the machines: they would be paid for until somebody notices.
#
# Runs as root: without arguments (cloud-init, startup script) it installs itself as a timer, with
# `check` it looks once. The same text stands in aws.yaml and gcp.yaml, because a machine must be
# guarded before anything has been copied to it; a test compares them.
set -euo pipefail

seen=${ONESHUI_SEEN:-/run/oneshui-raylet-seen}
program=${ONESHUI_DEADMAN:-/usr/local/sbin/oneshui-deadman}
units=${ONESHUI_UNITS:-/etc/systemd/system}
minutes=15

if [ "${1:-install}" = check ]; then
  if pgrep -x raylet >/dev/null; then
    touch "$seen"
  elif [ ! -e "$seen" ]; then
    # The first start may take twice as long: it installs several gigabytes.
    touch -d "+$minutes minutes" "$seen"
  elif [ -n "$(find "$seen" -mmin "+$minutes")" ]; then
    shutdown -h now
  fi
  exit 0
fi

install -m 755 "$0" "$program"
cat >"$units/oneshui-deadman.service" <<UNIT
[Service]
Type=oneshot
ExecStart=$program check
UNIT
cat >"$units/oneshui-deadman.timer" <<UNIT
[Timer]
OnActiveSec=1s
OnUnitActiveSec=60s
[Install]
WantedBy=timers.target
UNIT
systemctl daemon-reload
systemctl enable --now oneshui-deadman.timer
