"""The demonstration, shortened: both methods trained, evaluated and reported on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "demo.py"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demonstration_reports_both_methods(tmp_path):
    options = ["--frames=8192", "--episodes=1", f"--folder={tmp_path}"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {"skills", "ppo", "random"} <= set(summary["methods"])
    assert (tmp_path / "report.html").exists()
