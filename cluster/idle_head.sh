#!/usr/bin/env bash
# Ends a head that nobody drives: forgotten, it would be paid for until somebody notices.
#
# A driver signs every half minute in /var/lib/oneshui/driven, with the minutes for which the machine
# may go without (cluster.head_idle_minutes; fewer once all is done and sent to the bucket; 0: for
# ever). A file "keep" beside it says that results lie on this machine's disk alone. A sign in a file
# and no question to Ray, whose Jobs API goes on saying RUNNING when a raylet has died.
#
# Runs as root: without arguments (cloud-init, startup script) it installs itself as a timer, with
# `check` it looks once. The same text stands in aws.yaml and gcp.yaml; a test compares them.
set -euo pipefail

folder=${ONESHUI_HEAD:-/var/lib/oneshui}
program=${ONESHUI_IDLE_HEAD:-/usr/local/sbin/oneshui-idle-head}
units=${ONESHUI_UNITS:-/etc/systemd/system}
minutes=120 # before the first driver, and for a sign that cannot be read

# Google Cloud stops a machine that shuts itself down, and goes on charging for its disk: there the
# machine is deleted. Elsewhere nobody answers, and shutting down terminates it.
delete() {
  local data=http://metadata.google.internal/computeMetadata/v1/instance token zone name
  token=$(curl -sf -m 5 -H 'Metadata-Flavor: Google' "$data/service-accounts/default/token") || return 0
  token=$(sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p' <<<"$token")
  zone=$(curl -sf -m 5 -H 'Metadata-Flavor: Google' "$data/zone")
  name=$(curl -sf -m 5 -H 'Metadata-Flavor: Google' "$data/name")
  # Through standard input: a process list shows arguments.
  curl -sf -m 30 -X DELETE -H @- "https://compute.googleapis.com/compute/v1/$zone/instances/$name" \
    <<<"Authorization: Bearer $token"
}

if [ "${1:-install}" = check ]; then
  if [ -e "$folder/keep" ]; then
    exit 0
  fi
  # Never more than the machine has been up: a sign from before it was stopped is old at once.
  up=$(cut -d. -f1 "${ONESHUI_UPTIME:-/proc/uptime}")
  idle=$((up / 60))
  if [ -s "$folder/driven" ]; then
    said=$(<"$folder/driven")
    if [[ $said =~ ^[0-9]{1,6}$ ]]; then minutes=$((10#$said)); fi
    silent=$((($(date +%s) - $(stat -c %Y "$folder/driven")) / 60))
    if [ "$silent" -lt "$idle" ]; then idle=$silent; fi
  fi
  if [ "$minutes" -gt 0 ] && [ "$idle" -ge "$minutes" ]; then
    delete || true
    shutdown -h now
  fi
  exit 0
fi

# Drivers run as the user who logs in, whoever that is.
install -d -m 1777 "$folder"
install -m 755 "$0" "$program"
cat >"$units/oneshui-idle-head.service" <<UNIT
[Service]
Type=oneshot
ExecStart=$program check
UNIT
cat >"$units/oneshui-idle-head.timer" <<UNIT
[Timer]
OnActiveSec=1s
OnUnitActiveSec=60s
[Install]
WantedBy=timers.target
UNIT
systemctl daemon-reload
systemctl enable --now oneshui-idle-head.timer
