"""The replay's benchmark: what it measures and what it fits into memory; never how fast."""

import json

from hrl.benchmarks import replay as benchmark_replay


def test_the_benchmark_measures_every_size(monkeypatch):
    """Threads stay as they are for the tests beside this one; what fits decides the image."""
    monkeypatch.setattr(benchmark_replay.hardware, "configure", lambda threads: threads)
    monkeypatch.setattr(
        benchmark_replay, "_available", lambda device: 2 * 1000 * (32 * 32 * 3 + 1200)
    )
    result = benchmark_replay.run(batch=2, length=4, rounds=3, device="cpu", sizes=(320, 640))
    assert json.loads(json.dumps(result)) == result
    assert result["image"] == 32
    assert [rows["bytes"] // 320 for rows in result["rows"].values()] == [4158, 2 * 4158]
    assert all(rows["sample_milliseconds"] > 0 for rows in result["rows"].values())
