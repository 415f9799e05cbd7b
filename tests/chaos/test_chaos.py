"""Fifty bots on one-second bars while everything around them fails (R2, R5, R8.6, R9.10; D5).

ONEBAR_CHAOS_SECONDS is how long faults go on (the default is what an ordinary run of the tests
affords), ONEBAR_SEED which ones and when. Afterwards every bar of every bot must be there exactly
once, in order, and the ledgers must equal those of an undisturbed run.
"""

import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import suppress

import psutil
import psycopg
import pytest
from chaos_world import Services, add_chaos_bots, all_caught_up, read, verify
from postgres_cluster import Cluster
from tcp_proxy import Proxy

SECONDS = float(os.environ.get("ONEBAR_CHAOS_SECONDS") or 35)
SEED = int(os.environ.get("ONEBAR_SEED") or 1)
BOTS = 50
EDITED = 5  # bots whose rows are edited: their bars are all there, their orders differ by what was edited
LONGEST_CATCH_UP_S = 60

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals that Windows does not have"),
    pytest.mark.timeout(SECONDS * 2 + 400),
]


class Chaos:
    """Faults by name, drawn by seed, counted."""

    def __init__(self, services, rng):
        self.services = services
        self.rng = rng
        self.counts = Counter()
        self.takeovers = []

    def faults(self):
        return {
            "worker killed": self.kill_worker,
            "worker stopped 2 s": self.stop_worker,
            "worker hung": self.hang_worker,
            "service killed": self.kill_service,
            "service stopped by SIGTERM": self.end_service,
            "jobs table edited": self.edit_jobs,
            "bots table edited": self.edit_bots,
        }

    def go_on(self, seconds):
        """Do every fault once in an order drawn, then any of them until the time is over."""
        end = time.monotonic() + seconds
        names = list(self.faults())
        self.rng.shuffle(names)
        while names or time.monotonic() < end:
            self.services.keep()
            name = names.pop() if names else self.rng.choice(list(self.faults()))
            self.faults()[name]()
            self.counts[name] += 1
            time.sleep(self.rng.uniform(0.2, 2.0))
        self.services.keep()

    def leader(self):
        rows = read(self.plain_url, "SELECT holder FROM leases WHERE name = 'scheduler'")
        return self.services.leader(rows[0][0] if rows else None)

    def worker(self):
        leader = self.leader()
        workers = self.services.workers(leader) if leader else []
        return self.rng.choice(workers) if workers else None

    def kill_worker(self):
        if (worker := self.worker()) is not None:
            with suppress(psutil.NoSuchProcess):
                worker.kill()

    def stop_worker(self):
        if (worker := self.worker()) is not None:
            with suppress(psutil.NoSuchProcess):
                worker.suspend()
                time.sleep(2)
                worker.resume()

    def hang_worker(self):
        """Stop a worker for good: its parent has to notice."""
        if (worker := self.worker()) is not None:
            with suppress(psutil.NoSuchProcess):
                worker.suspend()
                self.services.hung.append(worker)

    def await_standby(self):
        """Wait until a standby is up: two deaths in a row measure the start of a process, not a takeover."""
        end = time.monotonic() + 20
        standing = "SELECT pid FROM service_runs WHERE role = 'standby' AND ended_at IS NULL"
        while self.services.wanted > 1 and time.monotonic() < end:
            self.services.keep()
            alive = {process.pid for process in self.services.processes}
            if alive & {pid for (pid,) in read(self.plain_url, standing)}:
                return
            time.sleep(0.2)

    def kill_service(self):
        self.await_standby()
        if (leader := self.leader()) is not None:
            with suppress(ProcessLookupError):
                leader.kill()
            self.time_takeover()

    def end_service(self):
        if (leader := self.leader()) is not None:
            with suppress(ProcessLookupError):
                leader.terminate()

    def time_takeover(self):
        """Measure from now until bars are committed again under a new epoch."""
        begun = time.monotonic()
        epoch = read(self.plain_url, "SELECT epoch FROM leases")
        steps = None
        while time.monotonic() - begun < 30:
            self.services.keep()
            if steps is None and read(self.plain_url, "SELECT epoch FROM leases") != epoch:
                steps = read(self.plain_url, "SELECT count(*) FROM bot_steps")
            if steps is not None and read(self.plain_url, "SELECT count(*) FROM bot_steps") != steps:
                self.takeovers.append(round(time.monotonic() - begun, 2))
                return
            time.sleep(0.1)
        self.takeovers.append(30.0)  # nobody took over

    def edit_jobs(self):
        self.write(
            self.rng.choice(
                [
                    "DELETE FROM apscheduler_jobs",
                    "UPDATE apscheduler_jobs SET job_state = 'rubbish' WHERE id LIKE '%1'",
                    "UPDATE apscheduler_jobs SET next_run_time = NULL WHERE id LIKE '%2'",
                    "UPDATE apscheduler_jobs SET next_run_time = 9999999999 WHERE id LIKE '%3'",
                    "UPDATE apscheduler_jobs SET next_run_time = 1",
                ]
            )
        )

    def edit_bots(self):
        bot = self.rng.randrange(EDITED) + 1
        true, false = ("true", "false") if "postgresql" in self.plain_url else ("1", "0")
        self.write(
            self.rng.choice(
                [
                    f"UPDATE trading_bots SET paused = {true} WHERE id = {bot}",
                    f"UPDATE trading_bots SET paused = {false} WHERE id <= {EDITED}",
                    f"UPDATE trading_bots SET description = 'edited' WHERE id = {bot}",
                    f"UPDATE trading_bots SET schedule = '*/1 * * * *' WHERE id = {bot}",
                    f"UPDATE trading_bots SET schedule = NULL WHERE id <= {EDITED}",
                ]
            )
        )

    def calm(self):
        """Undo the edits that keep bots from running."""
        true, false = ("true", "false") if "postgresql" in self.plain_url else ("1", "0")
        undone = f"paused = {false}, enabled = {true}, schedule = NULL"
        self.write(f"UPDATE trading_bots SET {undone} WHERE id <= {EDITED}")


class PostgresChaos(Chaos):
    def __init__(self, services, rng, cluster, proxy):
        super().__init__(services, rng)
        self.cluster = cluster
        self.proxy = proxy
        self.plain_url = cluster.url()

    def faults(self):
        return super().faults() | {
            "service frozen 9 s (SIGSTOP)": self.freeze_service,
            "PostgreSQL restarted": lambda: self.restart("fast"),
            "PostgreSQL crashed": lambda: self.restart("immediate"),
            "PostgreSQL killed": self.kill_server,
            "PostgreSQL frozen 4 s": lambda: self.cluster.freeze(4),
            "all connections cut": self.proxy.cut,
            "cut before COMMIT": lambda: self.cut_at(b"COMMIT", forward=False),
            "cut after COMMIT": lambda: self.cut_at(b"COMMIT", forward=True),
            "cut in the claim": lambda: self.cut_at(b"WITH claimed", forward=self.rng.random() < 0.5),
            "cut in the look for due jobs": lambda: self.cut_at(
                b"apscheduler_jobs.next_run_time <=", forward=False
            ),
            "cut in the status": lambda: self.cut_at(b"UPDATE service_runs", forward=True),
            "cut in the lease": lambda: self.cut_at(b"UPDATE leases", forward=True),
            "cut in the save": lambda: self.cut_at(b"bot_steps", forward=False),
        }

    def freeze_service(self):
        self.await_standby()
        if (leader := self.leader()) is not None:
            with suppress(ProcessLookupError):
                leader.send_signal(signal.SIGSTOP)
                self.time_takeover()
                time.sleep(max(0.0, 9 - (self.takeovers[-1] if self.takeovers else 0)))
                leader.send_signal(signal.SIGCONT)

    def restart(self, mode):
        self.cluster.stop(mode)
        time.sleep(self.rng.uniform(0, 2))
        self.cluster.start()

    def kill_server(self):
        self.cluster.kill()
        time.sleep(self.rng.uniform(0, 1))
        self.cluster.start()

    def cut_at(self, word, *, forward):
        """Cut inside a pass or a step. Prepared statements are not named again, but on new connections."""
        self.proxy.cut_at(word, forward=forward)
        self.proxy.cut()
        end = time.monotonic() + 3
        while self.proxy.armed() and time.monotonic() < end:
            time.sleep(0.02)
        self.proxy.disarm()

    def write(self, sql):
        for _ in range(50):
            try:
                with self.cluster.connect() as connection:
                    connection.execute(sql)
            except psycopg.Error:
                time.sleep(0.2)
            else:
                return


class SqliteChaos(Chaos):
    def __init__(self, services, rng, file):
        super().__init__(services, rng)
        self.file = file
        self.plain_url = f"sqlite:///{file}"

    def faults(self):
        return super().faults() | {
            "file locked 7 s": self.lock,
            "second service refused": self.second,
            "service frozen 3 s (SIGSTOP)": self.freeze_service,
        }

    def lock(self):
        connection = sqlite3.connect(self.file, isolation_level=None, timeout=20)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(7)
        connection.rollback()
        connection.close()

    def second(self):
        """A second service on the file must refuse, whichever runs."""
        self.services.wanted = 2
        self.services.keep()
        end = time.monotonic() + 10
        while time.monotonic() < end and all(process.poll() is None for process in self.services.processes):
            time.sleep(0.1)
        self.services.wanted = 1
        self.services.keep()

    def freeze_service(self):
        if (leader := self.leader()) is not None:
            with suppress(ProcessLookupError):
                leader.send_signal(signal.SIGSTOP)
                time.sleep(3)
                leader.send_signal(signal.SIGCONT)

    def write(self, sql):
        connection = sqlite3.connect(self.file, isolation_level=None, timeout=20)
        connection.execute(sql)
        connection.close()


def own_faults(folder):
    """Return what the services logged that no fault of the world explains."""
    words = ("Exception in thread", "pass failed", "not looked at", "bot failed")
    return [
        line[:300]
        for file in sorted(folder.glob("service-*.log"))
        for line in file.read_text(errors="replace").splitlines()
        if any(word in line for word in words)
    ]


def rage(chaos, seconds):
    """Let it rage and let it settle; return the s of the catch-up and the exit codes."""
    services = chaos.services
    try:
        services.keep()
        end = time.monotonic() + 40
        while not all_caught_up(chaos.plain_url, BOTS, 0) and time.monotonic() < end:
            time.sleep(0.2)
        chaos.go_on(seconds)
        chaos.calm()
        target = int(time.time()) * 1000
        begun = time.monotonic()
        late = True
        while late and time.monotonic() - begun < LONGEST_CATCH_UP_S:
            services.keep()
            time.sleep(0.3)
            late = not all_caught_up(chaos.plain_url, BOTS, target)
        return time.monotonic() - begun, services.stop()
    finally:
        services.kill_all()


def run_chaos(chaos, kind, tmp_path, capsys, seconds):
    """Rage, then compare with an undisturbed run."""
    caught_up_in, codes = rage(chaos, seconds)
    expected, found, twice, faults = verify(chaos.plain_url, tmp_path, range(EDITED + 1, BOTS + 1))
    with capsys.disabled():
        print(f"\nchaos on {kind}: seed {SEED}, {seconds:.0f} s, {sum(chaos.counts.values())} faults:")
        for name, count in sorted(chaos.counts.items()):
            print(f"  {count:4} {name}")
        print(
            f"  services started {chaos.services.started}; takeovers in s: {chaos.takeovers};"
            f" caught up in {caught_up_in:.1f} s; bars expected {expected}, found {found}, twice {twice};"
            f" ledgers compared {BOTS - EDITED}, different {len(faults)}"
        )
    assert own_faults(tmp_path) == []
    assert faults == []
    assert expected == found
    assert twice == 0
    assert caught_up_in < LONGEST_CATCH_UP_S
    assert codes
    assert set(codes) == {0}


def test_chaos_on_postgresql(tmp_path, capsys):
    cluster = Cluster()
    try:
        proxy = Proxy(cluster.port)
        add_chaos_bots(cluster.url(), BOTS, SEED)
        services = Services(cluster.url(proxy.port), tmp_path, wanted=2)
        chaos = PostgresChaos(services, random.Random(SEED), cluster, proxy)
        run_chaos(chaos, "PostgreSQL", tmp_path, capsys, SECONDS)
        proxy.close()
    finally:
        cluster.remove()
    # From the death or the stop of the leader to bars committed by the standby.
    assert chaos.takeovers
    assert max(chaos.takeovers) < 10


def test_chaos_on_sqlite(tmp_path, capsys):
    file = tmp_path / "onebar.db"
    add_chaos_bots(f"sqlite:///{file}", BOTS, SEED)
    services = Services(f"sqlite:///{file}", tmp_path, wanted=1)
    chaos = SqliteChaos(services, random.Random(SEED), file)
    run_chaos(chaos, "SQLite", tmp_path, capsys, SECONDS / 2)
    refused = [code for code in services.ended if code == 6]
    assert len(refused) >= chaos.counts["second service refused"] > 0
