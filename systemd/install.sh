#!/bin/bash
# What `make install` and `make uninstall` do, as root. Installing again is the upgrade.
#   PREFIX    where the virtual environment lives (/opt/meshd)      DESTDIR   a staging root, for packages
#   PYTHON    what it is made from (/usr/bin/python3)               PIP_ARGS  more arguments for pip install
#   PURGE=1   uninstall removes state, configuration and the account as well
set -euo pipefail
umask 022
unset PYTHONDONTWRITEBYTECODE # without compiled bytecode every start of meshctl would compile anew

PREFIX=${PREFIX:-/opt/meshd} DESTDIR=${DESTDIR:-} PYTHON=${PYTHON:-/usr/bin/python3} PIP_ARGS=${PIP_ARGS:-}
source_root=$(cd "$(dirname "$0")/.." && pwd)
units=(meshd.service meshd.socket meshd@.service meshd@.socket meshd-push.service meshd-push.socket)
unit_dir=$DESTDIR/usr/local/lib/systemd/system # /etc/systemd/system is the administrator's
sysusers_dir=$DESTDIR/usr/local/lib/sysusers.d
bash_completion=$DESTDIR/usr/local/share/bash-completion/completions/meshctl
zsh_completion=$DESTDIR/usr/local/share/zsh/site-functions/_meshctl
fish_completion=$DESTDIR/usr/local/share/fish/vendor_completions.d/meshctl.fish
bin_dir=$DESTDIR/usr/local/bin
commands=(meshctl meshd meshd-push)

die() { echo "$1" >&2; exit 1; }
systemd_runs() { [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; }
active_services() { systemctl list-units --state=active --plain --no-legend 'meshd*.service' | awk '{print $1}'; }
instances() { systemctl list-units --all --plain --no-legend 'meshd@*' 2>/dev/null | awk '{print $1}'; }

install_all() {
    # Built from a copy: what earlier builds left in the tree cannot get in, and root leaves nothing in it.
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    cp -R "$source_root"/{meshd,meshctl,pyproject.toml,README.md} "$build"
    find "$build" -name __pycache__ -prune -exec rm -rf {} +
    "$PYTHON" -m venv "$DESTDIR$PREFIX/venv"
    # shellcheck disable=SC2086 # several arguments in one variable
    "$DESTDIR$PREFIX/venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check $PIP_ARGS "$build"
    if [ -n "$DESTDIR" ]; then # scripts name the interpreter by the path it will have
        sed -i "1s|^#!$DESTDIR|#!|" "$DESTDIR$PREFIX"/venv/bin/{meshd,meshd-push,meshctl}
    fi

    install -d "$unit_dir" "$sysusers_dir" "$DESTDIR/etc/meshd" "$bin_dir" \
        "${bash_completion%/*}" "${zsh_completion%/*}" "${fish_completion%/*}"
    for unit in "${units[@]}"; do
        sed "s|/opt/meshd/|$PREFIX/|g" "$source_root/systemd/$unit" >"$unit_dir/$unit"
    done
    install -m 644 "$source_root/systemd/sysusers.d/meshd.conf" "$sysusers_dir/meshd.conf"
    for file in meshd.toml push.toml; do
        [ -e "$DESTDIR/etc/meshd/$file" ] || install -m 644 "$source_root/systemd/$file" "$DESTDIR/etc/meshd/"
    done
    for command in "${commands[@]}"; do
        ln -sfn "$PREFIX/venv/bin/$command" "$bin_dir/$command"
    done
    run="$DESTDIR$PREFIX/venv/bin/python -m meshctl completion"
    $run bash >"$bash_completion"
    $run zsh >"$zsh_completion"
    $run fish >"$fish_completion"

    [ -z "$DESTDIR" ] || return 0
    systemd-sysusers "$sysusers_dir/meshd.conf"
    if systemd_runs; then
        running=$(active_services)
        systemctl daemon-reload
        # An upgrade: what ran before runs the new code now. Links come back by themselves.
        # shellcheck disable=SC2086
        [ -z "$running" ] || systemctl restart $running
        systemctl --quiet enable --now meshd.socket meshd.service
    fi
    cat <<TEXT
meshd is installed in $PREFIX; its configuration is /etc/meshd/meshd.toml.
$(systemd_runs && echo "It runs: systemctl status meshd" || echo "systemd does not run here: start it with systemctl enable --now meshd once it does.")

What is next:
  adduser YOU meshd                 may use meshctl from the next login on
  meshctl found MESH --name NAME    start a mesh; NAME is what this machine is called in it
  meshctl introduce                 print a token for the next machine ...
  meshctl join TOKEN --name NAME    ... and paste it there
TEXT
}

uninstall_all() {
    if systemd_runs; then
        # shellcheck disable=SC2046
        systemctl --quiet disable --now meshd.service meshd.socket meshd-push.service meshd-push.socket $(instances) 2>/dev/null || true
    fi
    for unit in "${units[@]}"; do rm -f "$unit_dir/$unit"; done
    rm -f "$sysusers_dir/meshd.conf" "${commands[@]/#/$bin_dir/}" "$bash_completion" "$zsh_completion" "$fish_completion"
    rm -rf "$DESTDIR${PREFIX:?}/venv"
    rmdir --ignore-fail-on-non-empty "$DESTDIR$PREFIX" 2>/dev/null || true
    if systemd_runs; then
        systemctl daemon-reload
        systemctl reset-failed 'meshd*' 2>/dev/null || true
    fi
    [ -n "$DESTDIR" ] || rm -rf /run/meshd /run/meshd-*
    if [ "${PURGE:-}" = 1 ]; then
        rm -rf "$DESTDIR"/var/lib/meshd "$DESTDIR"/var/lib/meshd-* "$DESTDIR"/var/lib/private/meshd-* "$DESTDIR/etc/meshd"
        if [ -z "$DESTDIR" ] && getent passwd meshd >/dev/null; then userdel meshd; fi
        if [ -z "$DESTDIR" ] && getent group meshd >/dev/null; then groupdel meshd; fi
        echo "meshd is gone, with its state, configuration and account."
    else
        echo "meshd is gone. State (/var/lib/meshd*), /etc/meshd and the account stay; PURGE=1 removes them too."
    fi
}

if [ -z "$DESTDIR" ] && [ "$(id -u)" != 0 ]; then die "This needs root: sudo make ${1:-install}"; fi
case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*) die "usage: $0 install|uninstall" ;;
esac
