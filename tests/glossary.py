"""Read docs/metrics.md: the metrics of each agent, as patterns."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
RETURNS = "Returns in training"
TIMING = "Speed: `timing.jsonl`"
WORKERS = "Environments in worker processes"


class Section(NamedTuple):
    """A section with a table of metrics, and the agents that log them."""

    title: str
    agents: tuple[str, ...]
    metrics: tuple[str, ...]

    def logs(self, agent: str) -> bool:
        """Return whether an agent logs these metrics into metrics.jsonl, wherever it plays."""
        return agent in self.agents and self.title not in (TIMING, WORKERS)


def sections() -> list[Section]:
    """Return the sections that have a table."""
    found = []
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        metrics = tuple(re.findall(r"^\| `([^`]+)`", part, re.MULTILINE))
        if metrics:
            logged = re.search(r"Logged by: (.*?)[.:]? ?(?:\n\n|\. | where )", part, re.DOTALL)
            assert logged is not None, part[:80]
            agents = tuple(re.findall(r"`(\w+)`", logged[1]))
            found.append(Section(part.splitlines()[0], agents, metrics))
    return found


def section(title: str) -> Section:
    """Return the section of a title."""
    return next(found for found in sections() if found.title == title)


def matches(metric: str, key: str) -> bool:
    """Return whether a key is of a metric, whose words in capitals stand for names."""
    pattern = re.sub(r"[A-Z]+", r"[\\w-]+", re.escape(metric))
    return re.fullmatch(pattern, key) is not None


def unexplained(keys: set[str], metrics: Iterable[str]) -> list[str]:
    """Return the keys that no metric describes."""
    return sorted(key for key in keys if not any(matches(metric, key) for metric in metrics))


def unlogged(keys: set[str], metrics: Iterable[str]) -> list[str]:
    """Return the metrics of which there is no key."""
    return sorted(metric for metric in metrics if not any(matches(metric, key) for key in keys))
