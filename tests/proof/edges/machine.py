"""What root can do on this machine: mounts, network namespaces, another user, a clock that is wrong."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

NOBODY = 65534
_RESOLVER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    if (node && !strcmp(node, getenv("RESOLVER_NAME"))) {
        sleep(atoi(getenv("RESOLVER_SECONDS")));
        node = getenv("RESOLVER_ADDRESS");
    }
    return real(node, service, hints, found);
}
"""
_CLOCK = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static long offset(void) { const char *text = getenv("CLOCK_OFFSET"); return text ? atol(text) : 0; }
int clock_gettime(clockid_t id, struct timespec *at) {
    int rc = syscall(SYS_clock_gettime, id, at);
    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += offset();
    return rc;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


def run(*argv: str | Path, timeout: float = 60.0) -> str:
    """Run a command of the system; return its output, or raise with what it said."""
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(str(w) for w in argv)}: {done.stdout}{done.stderr}".strip())
    return done.stdout


def program(name: str, *, beside: Sequence[str] = ("/usr/bin", "/usr/sbin", "/usr/local/bin")) -> str:
    """Return the path of a program of the system, never the one of the same name in the environment."""
    found = shutil.which(name, path=os.pathsep.join(beside))
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def missing() -> list[str]:
    """Say what this machine lacks to build the edges."""
    lacks = [] if os.geteuid() == 0 else ["root"]
    for name in ("storescp", "Orthanc", "openssl", "gcc", "ip", "setpriv", "mount", "prlimit", "fsfreeze"):
        try:
            program(name, beside=("/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin", "/sbin"))
        except FileNotFoundError:
            lacks.append(name)
    return lacks


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_for(what: str, holds: Callable[[], object], seconds: float = 30.0, pause: float = 0.1) -> None:
    """Wait until `holds()` is true; raise TimeoutError with `what` otherwise."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether somebody listens on a TCP port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def mount_tmpfs(folder: Path, size: str, options: str = "") -> None:
    """Mount an empty file system of that size in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755{options}", "tmpfs", folder)


def mount_ext4(folder: Path, image: Path, megabytes: int) -> None:
    """Mount a new ext4 file system over a file."""
    with image.open("wb") as made:
        made.truncate(megabytes * 1024 * 1024)
    run("mkfs.ext4", "-q", "-F", image)
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-o", "loop", image, folder)


def unmount(folder: Path) -> None:
    """Unmount, also while files are open there."""
    if os.path.ismount(folder):
        run("umount", "-l", folder)


def drop_to_nobody() -> list[str]:
    """Return words before a command: it runs as `nobody`, reads every file, and writes its own only."""
    ids = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    return ["setpriv", *ids, "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]


def resolver(folder: Path, name: str, address: str, seconds: int = 0) -> dict[str, str]:
    """Return the environment in which a program finds `address` under `name`, after that many seconds."""
    library = folder / "resolver.so"
    if not library.exists():
        source = folder / "resolver.c"
        source.write_text(_RESOLVER)
        run("gcc", "-shared", "-fPIC", "-O1", "-o", library, source)
        library.chmod(0o755)
    return {
        "LD_PRELOAD": str(library),
        "RESOLVER_NAME": name,
        "RESOLVER_ADDRESS": address,
        "RESOLVER_SECONDS": str(seconds),
    }


def wrong_clock(folder: Path, seconds: int) -> dict[str, str]:
    """Return the environment in which a program sees the time of day that many seconds off."""
    library = folder / "clock.so"
    if not library.exists():
        source = folder / "clock.c"
        source.write_text(_CLOCK)
        run("gcc", "-shared", "-fPIC", "-O1", "-o", library, source)
        library.chmod(0o755)
    return {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(seconds)}


class Namespace:
    """A network namespace, joined to this machine by one cable."""

    def __init__(self, number: int) -> None:
        """Make it; `number` tells several labs apart."""
        self.name = f"edges{number}"
        self.here, self.there = f"edh{number}", f"edt{number}"
        self.own_address, self.address = f"10.213.{number}.1", f"10.213.{number}.2"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", self.name)
        run("ip", "address", "add", f"{self.own_address}/30", "dev", self.here)
        run("ip", "link", "set", self.here, "up")
        self.inside("ip", "address", "add", f"{self.address}/30", "dev", self.there)
        self.inside("ip", "link", "set", self.there, "up")
        self.inside("ip", "link", "set", "lo", "up")

    def inside(self, *argv: str) -> str:
        """Run a command in the namespace."""
        return run("ip", "netns", "exec", self.name, *argv)

    def unplug(self) -> None:
        """Drop everything that goes out to the peer, as a firewall does."""
        self.inside("iptables", "-I", "INPUT", "-p", "tcp", "-j", "DROP")

    def plug(self) -> None:
        """End that."""
        self.inside("iptables", "-D", "INPUT", "-p", "tcp", "-j", "DROP")

    def narrow(self, *, ends: bool = False) -> None:
        """Drop what is larger than 600 bytes, as a hop with a small MTU does; `ends` ends that."""
        rule = ["-p", "tcp", "-m", "length", "--length", "601:65535", "-j", "DROP"]
        self.inside("iptables", "-D" if ends else "-I", "INPUT", *rule)

    def close(self) -> None:
        """Remove the namespace and its cable."""
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", self.here], check=False, capture_output=True)
