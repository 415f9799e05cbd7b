#!/bin/sh
# Install Onebar as a systemd service from this checkout. Run again to upgrade: data and settings stay.
#   sudo ops/install.sh [--prefix /opt/onebar] [--no-start] [--dry-run]
# Program: PREFIX. Data and settings: /var/lib/onebar. Secrets: /etc/onebar/environment.
set -eu

prefix=/opt/onebar
state=/var/lib/onebar
secrets=/etc/onebar/environment
unit=/etc/systemd/system/onebar.service
start=yes
dry=

while [ $# -gt 0 ]; do
    case "$1" in
        --prefix) prefix=${2:?--prefix needs a folder}; shift ;;
        --no-start) start= ;;
        --dry-run) dry=yes ;;
        *) echo "usage: $0 [--prefix FOLDER] [--no-start] [--dry-run]" >&2; exit 2 ;;
    esac
    shift
done
case "$prefix" in
    /*) ;;
    *) echo "--prefix must be an absolute path, found $prefix" >&2; exit 2 ;;
esac

do_it() {
    echo "+ $*"
    [ -n "$dry" ] || "$@"
}

checkout=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "$dry" ] && [ "$(id -u)" -ne 0 ]; then
    echo "installing a service needs root: sudo $0" >&2
    exit 1
fi
if [ "$(readlink -f "$prefix")" = "$checkout" ]; then
    echo "--prefix is this checkout; choose another folder, $prefix would be written over" >&2
    exit 2
fi
python=${PYTHON:-python3}
if ! "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer with venv is needed; name it with PYTHON=/path/to/python3.11" >&2
    exit 1
fi

if ! id onebar >/dev/null 2>&1; then
    do_it useradd --system --home-dir "$state" --shell /usr/sbin/nologin onebar
fi
do_it mkdir -p "$prefix" "$state" "$(dirname "$secrets")"
for room in scheduler ops jobs persistence strategies docs pyproject.toml requirements.txt LICENSE README.md; do
    do_it rm -rf "${prefix:?}/$room"
    do_it cp -R "$checkout/$room" "$prefix/$room"
done
[ -x "$prefix/.venv/bin/python" ] || do_it "$python" -m venv "$prefix/.venv"
do_it "$prefix/.venv/bin/python" -m pip install --quiet -r "$prefix/requirements.txt"
do_it "$prefix/.venv/bin/python" -m pip install --quiet --no-deps -e "$prefix"
do_it "$prefix/.venv/bin/python" -m compileall -q "$prefix/scheduler" "$prefix/ops" "$prefix/jobs" \
    "$prefix/persistence" "$prefix/strategies"

[ -e "$state/scheduler.toml" ] || do_it cp "$checkout/scheduler.toml" "$state/scheduler.toml"
if [ ! -e "$secrets" ]; then
    do_it install -m 0600 /dev/null "$secrets"
fi
do_it chown -R onebar:onebar "$state"
do_it chmod 0700 "$state"

if [ -n "$dry" ]; then
    echo "+ write $unit"
else
    sed "s#/opt/onebar#$prefix#g" "$checkout/ops/systemd/onebar.service" > "$unit"
fi
do_it systemctl daemon-reload
if [ -n "$start" ]; then
    do_it systemctl enable onebar.service
    do_it systemctl restart --no-block onebar.service
    echo "Onebar starts. Look at it: systemctl status onebar; journalctl -u onebar -f"
else
    echo "Start it: sudo systemctl enable --now onebar"
fi
echo "The commands: cd $state && sudo -u onebar $prefix/.venv/bin/jobs list"
