"""A real systemd as PID 1 of namespaces of its own, over a copy-on-write view of this machine. Boots in half a second.

Nothing that happens inside is seen outside: files go to a tmpfs, the network has only ``lo``, and killing PID 1 ends
every process. Memory and task limits are not enforced inside (the box gets no cgroup controllers).
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

BOOT_TIMEOUT = 30.0
COMMAND_TIMEOUT = 120.0
T = TypeVar("T")
CLEAN_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}

# Runs as PID 1 of the new namespaces and ends as systemd. $1: scratch directory, $2: host name, rest: src:dst mounts.
_INIT = r"""
set -e
B=$1; NAME=$2; shift 2; R=$B/root
mount -t tmpfs -o mode=755 tmpfs $B
mkdir -p $B/upper $B/work $R
mount -t overlay overlay -o lowerdir=/,upperdir=$B/upper,workdir=$B/work $R
mount -t proc proc $R/proc
mount -t sysfs -o ro sysfs $R/sys
mount -t cgroup2 cgroup2 $R/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs $R/run
mount -t tmpfs -o mode=1777 tmpfs $R/tmp
mount -t tmpfs -o mode=755 tmpfs $R/dev
mkdir $R/dev/pts $R/dev/shm $R/dev/mqueue
for d in null zero full random urandom tty; do touch $R/dev/$d; mount --bind /dev/$d $R/dev/$d; done
mount -t devpts -o newinstance,ptmxmode=0666 devpts $R/dev/pts
ln -s pts/ptmx $R/dev/ptmx
ln -s /proc/self/fd $R/dev/fd
mount -t tmpfs -o mode=1777 tmpfs $R/dev/shm
for pair in "$@"; do
    target=$R${pair##*:}
    mkdir -p "$target"
    mount --bind "${pair%%:*}" "$target"
    mount -o remount,bind,ro "$target"
done
rm -f $R/etc/systemd/system/*.wants/*
: > $R/etc/machine-id
ip link set lo up
ip address add 10.77.0.1/32 dev lo       # ICE leaves 127.0.0.1 out; a second mesh node is reached by this one
hostname "$NAME"
cd $R
mkdir -p old
pivot_root . old
umount -l old
rmdir old
mount --make-rshared /                   # else the directories of LoadCredential= are EACCES
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /lib/systemd/systemd --log-target=journal --show-status=no
"""


def _cgroup2_root() -> Path:
    """Where the unified hierarchy is mounted: all of /sys/fs/cgroup, or a corner of it beside version 1."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise RuntimeError("no cgroup2 file system is mounted; systemd cannot run in a box here")


class Box:
    """One booted systemd. ``close`` ends it and all that ran inside; it is safe to call twice."""

    def __init__(self, scratch: Path, name: str, mounts: dict[Path, str] | None = None) -> None:
        """Boot it. ``scratch`` is an empty directory of the caller's.

        ``mounts`` maps directories here to paths inside, where they are read-only.

        Raises RuntimeError, with what systemd said, when it has not come up after ``BOOT_TIMEOUT`` seconds.
        """
        self._cgroup = _cgroup2_root() / name
        self._cgroup.mkdir(exist_ok=True)
        self._log = scratch.parent / f"{name}.log"
        enter = f'echo $BASHPID > {shlex.quote(str(self._cgroup / "cgroup.procs"))}; exec "$@"'
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid", "--propagation", "private"]
        unshare = ["unshare", "--fork", "--kill-child", *namespaces]
        pairs = [f"{source}:{target}" for source, target in (mounts or {}).items()]
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                ["bash", "-c", enter, "enter", *unshare, "bash", "-c", _INIT, "init", str(scratch), name, *pairs],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=CLEAN_ENV,
            )
        self._leader = 0
        try:
            self._wait_for_boot()
        except BaseException:
            self.close()
            raise

    def _wait_for_boot(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT
        while time.monotonic() < deadline and self._outer.poll() is None:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            self._leader = int(children[0]) if children else 0
            if self._leader and self.run("test", "-S", "/run/systemd/private", check=False).returncode == 0:
                self.run("systemctl", "is-system-running", "--wait", check=False)
                return
            time.sleep(0.02)
        raise RuntimeError(f"systemd has not come up in its box: {self._log.read_text()[-2000:]}")

    def run(
        self, *command: str, user: str | None = None, check: bool = True, timeout: float = COMMAND_TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root or as ``user`` with all of that user's groups. Output is captured as text.

        Raises AssertionError, with the output, for an exit status other than 0 unless ``check`` is false.
        """
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        done = subprocess.run(
            ["nsenter", "-t", str(self._leader), "-a", *become, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=CLEAN_ENV,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{shlex.join(command)} exited {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as ``systemctl show`` has them."""
        lines = self.run("systemctl", "show", unit, "--property", ",".join(properties)).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def write(self, path: str, text: str) -> None:
        """Put a file there, readable by all."""
        self.run("mkdir", "--parents", str(Path(path).parent))
        self.run("sh", "-c", f"printf %s {shlex.quote(text)} > {shlex.quote(path)}")

    def wait_for(self, condition: Callable[[], T], what: str, timeout: float = 20.0) -> T:
        """Call ``condition`` until it gives something true, and return that. AssertionError after ``timeout`` s."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            assert time.monotonic() < deadline, f"not so after {timeout:g} s: {what}"
            time.sleep(0.05)
        return result

    def journal(self, unit: str) -> str:
        """All that the journal of this box has of one unit."""
        return self.run("journalctl", "--no-pager", "-u", unit).stdout

    def close(self) -> None:
        """Kill PID 1, and with it all that is inside."""
        if self._leader and self._outer.poll() is None:
            os.kill(self._leader, signal.SIGKILL)
        elif self._outer.poll() is None:
            self._outer.kill()
        self._outer.wait(timeout=10)
        deadline = time.monotonic() + 5
        while self._cgroup.exists() and time.monotonic() < deadline:
            for directory, _, _ in os.walk(self._cgroup, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:  # its last process is still on the way out
                    time.sleep(0.02)
