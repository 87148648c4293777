# make demo   venv, pinned install, two small trainings, an evaluation with pictures
# make test   venv, pinned install, lint, types, all tests
# make test-fast   the tests without a marker, in less than a minute
# make coverage   all tests once more, and which lines they run: half as long again
# make soak   what takes an hour: kills, failing disks, damaged files, two writers at once; another seed each time
# make reproduce DATA=DIR   Zhang's table on real facades: trainings of hours, gone on with by the same command
# make docs   the site into build/site, warnings as errors
# make bench  an environment with other projects' layers, everything timed beside them (BENCH=--quick: a look)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Shorter for a smoke test: make demo DEMO="--train.epochs 2" DEMO_LIMIT=4
DEMO ?=
DEMO_LIMIT ?= 50
RUNS ?= checkpoints

BENCH_VENV ?= .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed
BENCH ?=

.PHONY: demo test test-fast coverage docs soak soak-kill soak-fuzz soak-faults soak-two bench reproduce install lint types tests release clean

# Compiled by the installation where there is a C compiler.
KERNEL := gen/kernels/blur_kernel.c gen/kernels/blur_kernel.h

$(STAMP): pyproject.toml constraints.txt $(KERNEL)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/train_pix2pix --config demo-paper --generator.sampling strided --out $(RUNS)/demo-strided $(DEMO)
	$(BIN)/train_pix2pix --config demo --out $(RUNS)/demo-steady $(DEMO)
	$(BIN)/eval_stability $(RUNS)/demo-strided $(RUNS)/demo-steady --shifts 0..7 --limit $(DEMO_LIMIT) --out results/demo
	@echo; echo "open results/demo/report.html; pictures: grid.png, flicker.webp and curve.png beside it"

test: lint types tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy reads a tree of links in which the folders lie where an installation puts them.
FOLDERS := checkpoints configs data eval gen

types: $(STAMP)
	rm -rf build/types && mkdir -p build/types/steadypix
	cd build/types/steadypix && ln -s ../../../steadypix/*.py* ../../../steadypix/py.typed $(addprefix ../../../,$(FOLDERS)) .
	MYPYPATH=build/types:. $(BIN)/mypy -p steadypix -p benchmarks -p reproduce -p soak -m train_pix2pix

# More options of pytest: make test PYTEST=--durations=25
PYTEST ?=

tests: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST)

coverage:
	$(MAKE) tests PYTEST="--cov --cov-report=term $(PYTEST)"

test-fast: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not (slow or browser or gpu or real_data)" $(PYTEST)

# Open build/site/index.html. What it needs is installed beside the rest, when it is first asked for.
DOCS_STAMP := $(VENV)/.docs-installed

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $(DOCS_STAMP)

docs: $(DOCS_STAMP)
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/site
	@echo "open build/site/index.html"

# Shorter: make soak FUZZ_INPUTS=500. The same once more: make soak SEED=N, with the seed that was printed first.
SEED := $(strip $(shell od -An -N3 -tu4 /dev/urandom))
FUZZ_INPUTS ?= 10000
FUZZ_SEED ?= $(SEED)

soak:
	@echo "seed $(SEED)"
	$(MAKE) soak-kill soak-faults soak-fuzz soak-two SEED=$(SEED) FUZZ_SEED=$(FUZZ_SEED)

# A training and an evaluation that are killed at random instants, gone on with, and held against one left alone.
KILLS ?= 30

soak-kill: $(STAMP)
	$(BIN)/python -m soak.kill --kills $(KILLS) --seed $(SEED)

# Every n-th write, fsync and rename of every command fails; all of them: EVERY=1, which takes half an hour.
EVERY ?= 5

soak-faults: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m soak.faults --every $(EVERY) --seed $(SEED)

soak-fuzz: $(STAMP)
	$(BIN)/python -m soak.fuzz --inputs $(FUZZ_INPUTS) --seed $(FUZZ_SEED)

# Every command that writes to a folder, started twice at once.
PAIRS ?= 50

soak-two: $(STAMP)
	$(BIN)/python -m soak.two --pairs $(PAIRS)

# The peers are measured against and never needed otherwise, so they have an environment of their own.
$(BENCH_STAMP): pyproject.toml constraints.txt $(KERNEL)
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	    --editable . antialiased-cnns==0.3 timm==1.0.31
	touch $(BENCH_STAMP)

bench: $(BENCH_STAMP)
	$(BENCH_VENV)/bin/python -m benchmarks.run $(BENCH)

# DATA holds facades/ and maps/. SCALE=full is the paper's size, for a GPU; STUDY=maps or maps-back the other table;
# REPRODUCE="--minutes 9" trains one piece, "--lpips-weights FILE" adds LPIPS.
STUDY ?= facades
SCALE ?= cpu
REPRODUCE ?=

reproduce: $(STAMP)
	$(BIN)/python -m reproduce --data "$(DATA)" --study $(STUDY) --scale $(SCALE) $(REPRODUCE)

# The generators in checkpoints/released, from scratch; see checkpoints/MODEL_CARD.md.
release: $(STAMP)
	$(BIN)/python checkpoints/release.py

clean:
	rm -rf $(VENV) $(BENCH_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
