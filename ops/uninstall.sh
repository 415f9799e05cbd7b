#!/bin/sh
# Remove the systemd service and the program. Data, settings and secrets stay, unless --purge.
#   sudo ops/uninstall.sh [--prefix /opt/onebar] [--purge] [--dry-run]
set -eu

prefix=/opt/onebar
purge=
dry=

while [ $# -gt 0 ]; do
    case "$1" in
        --prefix) prefix=${2:?--prefix needs a folder}; shift ;;
        --purge) purge=yes ;;
        --dry-run) dry=yes ;;
        *) echo "usage: $0 [--prefix FOLDER] [--purge] [--dry-run]" >&2; exit 2 ;;
    esac
    shift
done

do_it() {
    echo "+ $*"
    [ -n "$dry" ] || "$@"
}

if [ -z "$dry" ] && [ "$(id -u)" -ne 0 ]; then
    echo "removing a service needs root: sudo $0" >&2
    exit 1
fi
# Only a folder that looks like ours is removed, whatever was typed.
if [ -z "$dry" ] && [ -e "$prefix" ] && [ ! -x "$prefix/.venv/bin/scheduler" ]; then
    echo "$prefix holds no Onebar; nothing was removed" >&2
    exit 1
fi
if [ -e "$prefix/.git" ]; then
    echo "$prefix is a checkout, not an installation; nothing was removed" >&2
    exit 1
fi

do_it systemctl disable --now onebar.service || true
do_it rm -f /etc/systemd/system/onebar.service
do_it systemctl daemon-reload
do_it rm -rf "${prefix:?}"
if [ -n "$purge" ]; then
    do_it rm -rf /var/lib/onebar /etc/onebar
    do_it userdel onebar || true
else
    echo "Kept: /var/lib/onebar (bots, trades, settings) and /etc/onebar (secrets). --purge removes them."
fi
