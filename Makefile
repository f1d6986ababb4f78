# make demo       environment, install, train both methods small, evaluate, report
# make test       environment, install, lint, types, import contracts, site, tests
# make docs       the site, in build/site
# make test-slow  slow tests, with the packages of all extras; those on SLURM, and those in a browser,
#                 where SLURM and Chromium are installed
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: install install-external install-slurm install-browser demo docs test test-slow slow-tests \
	external-tests browser-tests lint clean
install: $(INSTALLED)

$(INSTALLED): setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable ".[dev,docs]"
	touch $@

install-external: $(INSTALLED)
	$(INSTALL) --editable ".[dev,docs,external,slurm,ray,dashboard,browser]"

# A cluster of one machine for the tests on SLURM, system packages: .ci/run calls this.
install-slurm:
	command -v slurmctld || (apt-get update --quiet && DEBIAN_FRONTEND=noninteractive apt-get \
		install --quiet --yes --no-install-recommends slurmctld slurmd slurm-client munge) \
		|| echo "no SLURM can be installed here: its tests are skipped"

# A browser without a screen for the tests of pages, a system package: .ci/run calls this.
install-browser:
	command -v chromium || (apt-get update --quiet && DEBIAN_FRONTEND=noninteractive apt-get \
		install --quiet --yes --no-install-recommends chromium) \
		|| echo "no Chromium can be installed here: its tests are skipped"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Needs no network. The variable silences a note on the successors of MkDocs.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

test: lint docs
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow and not browser"

# Each part runs even if another failed; the exit code is not 0 then.
test-slow: $(INSTALLED)
	$(MAKE) --keep-going slow-tests external-tests browser-tests

slow-tests: install-external
	$(BIN)/python -m pytest -n 2 -m slow -rs

external-tests: install-external
	$(BIN)/python -m pytest -n 2 -m "not slow and not browser" tests/envs tests/hrl/dashboard \
		-k "external or dashboard"

browser-tests: install-external
	$(BIN)/python -m pytest -m browser -rs

demo: $(INSTALLED)
	$(BIN)/python scripts/demo.py

clean:
	rm -rf $(VENV) build *.egg-info
