"""The files that a repository's host, its visitors and pre-commit read."""

import re
from pathlib import Path

import pytest
import yaml

import hrl

ROOT = Path(__file__).resolve().parents[1]
FORMS = sorted(
    path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"
)
CHANGE_HEADINGS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def _read(path: Path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_pre_commit_runs_what_make_lint_runs():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    checks = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    [repository] = _read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == checks
    assert all(hook["language"] == "system" for hook in repository["hooks"])
    assert not any(hook["pass_filenames"] for hook in repository["hooks"])


def test_the_citation_is_of_this_version():
    citation = _read(ROOT / "CITATION.cff")
    assert citation["version"] == hrl.__version__
    assert citation["authors"] == [{"name": "pixel-hrl developers"}]
    assert citation["license"] == "Apache-2.0"
    [paper] = citation["references"]
    assert paper["url"].endswith("2407.19142")


def test_the_changelog_has_this_version_and_the_usual_headings():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+)", text, re.MULTILINE)
    assert versions[0] == hrl.__version__
    sections = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]
    for version, changes in zip(versions, sections, strict=True):
        headings = re.findall(r"^### (.*)$", changes, re.MULTILINE)
        assert headings, version
        assert len(set(headings)) == len(headings), version
        assert set(headings) <= set(CHANGE_HEADINGS), version


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_issue_forms_are_whole(form):
    content = _read(form)
    assert content["name"]
    assert content["description"].endswith(".")
    questions = [part for part in content["body"] if part["type"] != "markdown"]
    identifiers = [part["id"] for part in questions]
    assert len(set(identifiers)) == len(identifiers)
    assert all(part["attributes"]["label"] for part in questions)
    assert any(part.get("validations", {}).get("required") for part in questions)


def test_there_are_forms_for_bugs_wishes_and_learning():
    assert [form.stem for form in FORMS] == ["agent_does_not_learn", "bug", "feature"]
