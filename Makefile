# Everything a fresh machine needs is Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# The stamp changes when the lock or the package's own description does.
STAMP := $(VENV)/.installed
LOCK := $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11
ARGS ?=
MEASURE ?=
DATA ?=
export OMP_NUM_THREADS ?= 2
# Tests start many processes: each finds our modules compiled, whatever the caller's shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo atlas test test-system test-long check format bench docs lock clean install

demo: install ## From films to an answer in the reading room, in one command
	$(BIN)/hilum demo $(ARGS)

atlas: install ## All CNN studies as one site, in the folder atlas (DATA: a root of real data)
	$(BIN)/hilum study atlas --out atlas $(if $(DATA),--data-dir $(DATA)) $(ARGS)

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("hilum needs Python 3.11 or newer; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || $(BIN)/python -m pip install --quiet uv
	$(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

test: install ## Unit and property tests, without system packages
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not system and not long" $(ARGS)

test-system: install ## Against real counterparts: DCMTK and what else the distribution has
	$(BIN)/python -m pytest -m "system" $(ARGS)

test-long: install ## Long counts
	$(BIN)/python -m pytest -m "long" $(ARGS)

check: install ## Style, types and the direction of imports
	$(BIN)/ruff check src tests examples benchmarks docs deploy
	$(BIN)/ruff format --check src tests examples benchmarks docs deploy
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## docs/benchmarks.md from kept numbers (MEASURE: names of scripts in benchmarks that run first, or all: hours)
	$(BIN)/python benchmarks/compose.py --measure $(MEASURE) $(ARGS)

docs: install ## Pages that are made from the code
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_topics.py

format: install
	$(BIN)/ruff check --fix src tests examples benchmarks docs deploy
	$(BIN)/ruff format src tests examples benchmarks docs deploy

lock: install ## Resolve anew; the lock names no host
	$(LOCK) --extra train --extra openvino --extra postgres --extra tensorboard --group dev --upgrade pyproject.toml -o requirements.lock
	$(LOCK) --extra openvino --extra postgres -c requirements.lock pyproject.toml -o deploy/requirements.lock
	echo 'onnxruntime ; sys_platform == "never"' >$(VENV)/without-cpu.txt
	echo 'onnxruntime-gpu[cuda,cudnn]' | $(LOCK) --extra postgres -c requirements.lock --override $(VENV)/without-cpu.txt \
	    pyproject.toml - -o deploy/requirements-gpu.lock
	printf 'editables\nhatchling\nuv\n' | $(LOCK) -c requirements.lock - -o deploy/build.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache
