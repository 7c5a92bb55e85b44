# Two commands: `make demo` trains on the built-in scenes, `make test` runs the tests. Both make .venv when it is not there.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test long lint types coverage docs pictures faults damage mutants audit wheel lowest clean

demo: $(VENV)/.installed
	$(RUN) train.py

test: $(VENV)/.tested-with
	$(RUN) -m pytest -n 2 --dist loadfile

# The tests with every case of those that take minutes.
long: $(VENV)/.tested-with
	RSML_LONG=1 $(RUN) -m pytest -n 2 --dist loadfile

lint: $(VENV)/.tested-with
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

types: $(VENV)/.tested-with
	$(VENV)/bin/mypy

coverage: $(VENV)/.tested-with
	$(RUN) -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --cov-report=html:build/coverage

# The three pictures of the README, drawn by our own code from drawn scenes; the report needs chromium.
pictures: $(VENV)/.tested-with
	$(RUN) docs/pictures/readme.py

docs: $(VENV)/bin/mkdocs
	$(VENV)/bin/mkdocs build --strict --site-dir build/site

# The full sweeps, of which the tests run a part: every write fails once, every file of others is damaged, code is mutated.
faults: $(VENV)/.tested-with
	$(RUN) -m tests.sweeps.faults --works divide scenes index compare crop map
	$(RUN) -m tests.sweeps.faults --works train export --points 40

damage: $(VENV)/.tested-with
	$(RUN) benchmarks/damage.py --count 100000

mutants: $(VENV)/.tested-with
	$(RUN) benchmarks/mutants.py --count 200

# Known faults of the exact set that is installed.
audit:
	$(PYTHON) -m venv build/audit && build/audit/bin/python $(PIP) pip-audit
	build/audit/bin/pip-audit -r requirements.txt --no-deps --disable-pip --strict

# The wheel, installed into an environment of its own, trains the built-in experiment in an empty folder.
wheel: $(VENV)/bin/python
	rm -rf build/wheel && mkdir -p build/wheel/empty
	$(RUN) -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/venv && build/wheel/venv/bin/python $(PIP) build/wheel/rsml-*.whl
	cd build/wheel/empty && ../venv/bin/rsml train --set training.epochs=1 data.scenes.count=210

# The tests with the lowest versions that pyproject.toml admits.
lowest: $(VENV)/bin/python
	$(PYTHON) -m venv build/lowest
	$(RUN) -c "import re, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	  all_ = p['dependencies'] + [r for k, e in p['optional-dependencies'].items() if k != 'all' for r in e]; \
	  print('\n'.join(r.replace('>=', '==') for r in all_))" > build/lowest.txt
	build/lowest/bin/python $(PIP) -r build/lowest.txt pytest pytest-xdist hypothesis "tf-keras~=2.18.0"
	build/lowest/bin/python -m pytest -n 2 --dist loadfile

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else \
	  "error: $(PYTHON) is Python %d.%d, expected 3.10 to 3.13; name another with make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(RUN) $(PIP) -r requirements.txt
	$(RUN) $(PIP) --no-deps --editable .
	touch $@

$(VENV)/.tested-with: requirements-test.txt $(VENV)/.installed
	$(RUN) $(PIP) -r requirements-test.txt
	touch $@

$(VENV)/bin/mkdocs: requirements-docs.txt $(VENV)/.installed
	$(RUN) $(PIP) -r requirements-docs.txt

clean:
	rm -rf $(VENV) build
