"""What starts the service at boot (R5.1, R5.6), as far as it can be looked at without a boot."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.settings import ServiceSettings
from ops.health import LOOP_FRESH_S
from scheduler.service.daemon import HUNG, REFUSED, STOPPED

OPS = Path(__file__).parents[2] / "ops"
UNIT = OPS / "systemd" / "onebar.service"


@pytest.fixture(scope="module")
def unit():
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(UNIT)
    return parser


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_hardened():
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    score = float(re.search(r"Overall exposure level for onebar.service: ([\d.]+)", said)[1])
    assert score <= 1.5, said


def test_the_unit_agrees_with_the_service(unit):
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert set(service["RestartPreventExitStatus"].split()) == {"2", str(REFUSED)}
    assert not {str(HUNG), str(STOPPED)} & set(service["RestartPreventExitStatus"].split())
    assert int(service["TimeoutStopSec"]) > 2 * ServiceSettings().stop_timeout_s
    assert int(service["WatchdogSec"]) >= LOOP_FRESH_S, "a loop that waits for its database is given its time"
    assert service["TimeoutStartSec"] == "infinity", "a database that is down at boot is waited for"


def test_the_installer_says_what_it_would_do_and_does_not_do_it(tmp_path):
    prefix = tmp_path / "here"
    said = subprocess.run(
        [OPS / "install.sh", "--prefix", prefix, "--dry-run"], capture_output=True, text=True, check=True
    ).stdout
    assert f"+ cp -R {OPS.parent}/scheduler {prefix}/scheduler" in said
    assert "+ systemctl enable onebar.service" in said
    assert not prefix.exists()
    refused = subprocess.run(
        [OPS / "install.sh", "--prefix", OPS.parent, "--dry-run"], capture_output=True, check=False
    )
    assert refused.returncode == 2, "it would write over the checkout it copies from"


def test_the_uninstaller_keeps_the_data_and_every_folder_that_is_not_ours(tmp_path):
    said = subprocess.run(
        [OPS / "uninstall.sh", "--dry-run"], capture_output=True, text=True, check=True
    ).stdout
    assert "/var/lib/onebar" not in said.partition("Kept:")[0]
    purged = subprocess.run(
        [OPS / "uninstall.sh", "--dry-run", "--purge"], capture_output=True, text=True, check=True
    )
    assert "+ rm -rf /var/lib/onebar /etc/onebar" in purged.stdout
    (tmp_path / ".git").mkdir()
    refused = subprocess.run(
        [OPS / "uninstall.sh", "--dry-run", "--prefix", tmp_path], capture_output=True, check=False
    )
    assert refused.returncode == 1


def test_windows_acts_on_each_exit_code():
    text = (OPS / "windows" / "install.ps1").read_text()
    assert '"AppExit", "Default", "Restart"' in text
    stopping = re.search(r"foreach \(\$code in (.*?)\)", text)[1]
    assert set(re.findall(r'"(\d+)"', stopping)) == {str(STOPPED), "2", str(REFUSED)}
    assert "AppRotateFiles" in text
    stop_ms = int(re.search(r'AppStopMethodConsole = "(\d+)"', text)[1])
    assert stop_ms > ServiceSettings().stop_timeout_s * 1000
