# Each target sets up what it needs: its own virtual environment with pinned requirements.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

REF := build/reference

ROBUST = $(BIN)/mu-study robustness
.PHONY: demo test bench soak soak-engine soak-link soak-board soak-sources soak-monitor soak-review \
  soak-docs board-test fuzz reference lint docs clean

demo: $(READY)
	$(BIN)/mu-demo $(if $(REC),--recording "$(REC)")

test: $(READY)
	$(BIN)/python -m pytest

bench: $(READY)
	$(BIN)/python -m pytest benchmarks/ --benchmark-only

# Reported figures: hours. Muscles 1 to 3 are for reports only; choices are made on others.
soak: $(READY)
	for seed in 1 2 3; do $(ROBUST) --seed $$seed --keep build/soak/muscle_$$seed \
	  --out docs/reports/robustness_$$seed.json || exit; done
	for seed in 1 2; do $(ROBUST) --seed $$seed --labels decompose --only nominal,SNR,gains \
	  --keep build/soak/blind_$$seed --out docs/reports/robustness_$${seed}_decompose.json || exit; done
	$(ROBUST) --only nominal --common-drive 0.1 --keep build/soak/common \
	  --out docs/reports/robustness_1_common.json
	$(ROBUST) --only nominal --montage mono --noise lead --keep build/soak/mono \
	  --out docs/reports/robustness_1_mono.json
	$(ROBUST) --only "nominal,SNR,velocity -10,3 dead" --recipe models/large.toml \
	  --keep build/soak/large --out docs/reports/robustness_1_large.json
	$(if $(REC),$(BIN)/mu-decompose "$(REC)" --out build/soak/trains.npz && \
	  $(BIN)/mu-study recording "$(REC)" --labels build/soak/trains.npz --other "$(REC)" \
	  --blocks 8:13,13:18,18:24 --keep build/soak/recording --out docs/reports/recording.json)

# The engine at the pace of use: 35 minutes. Each report is JSON, and a page with plots beside it.
PACED = $(BIN)/python -m pytest -q benchmarks/test_bench_paced.py --benchmark-only -o timeout=4000
soak-engine: $(READY)
	mkdir -p build/soak
	$(PACED) -k "paced_loop and recommended" --seconds 600 --repeat 3 --report build/soak/loop.json
	$(PACED) -k memory --simulated 3600 --report build/soak/memory.json
	$(PACED) -k grids --seconds 60 --report build/soak/grids.json
	cp build/soak/loop.json build/soak/memory.json build/soak/grids.json docs/reports/
	cmake -S . -B build/sanitized -DSPW_TESTS=ON -DSPW_SANITIZE=ON && cmake --build build/sanitized
	$(BIN)/python tests/weights_seeds.py build/soak/seeds
	build/sanitized/fuzz_weights 620 build/soak/seeds/*.bin

# Faults of the link: 10,000 of every kind on a simulated clock, 100 in real time; 2 hours.
soak-link: $(READY)
	mkdir -p build/soak
	for profile in full classic; do $(BIN)/mu-link soak --trials 10000 --profile $$profile \
	  --out docs/reports/link_$$profile.json || exit; done
	$(BIN)/python benchmarks/soak_link.py --trials 100 --out docs/reports/link_realtime.json

# A deploy killed at 300 random moments, on a board in a folder; 10 minutes.
soak-board: $(READY)
	$(BIN)/python benchmarks/soak_board.py --trials 300 --out docs/reports/board_kills.json

# Every source against its emulated amplifier, in real time: 36 minutes.
soak-sources: $(READY)
	$(BIN)/python benchmarks/soak_sources.py --seconds 300 --faults 120 \
	  --out docs/reports/sources.json

# The way to a board, on stand-ins (tests/standin/README.md): 300 power cuts, every kind of broken
# release; root, 1 hour.
board-test: $(READY)
	$(BIN)/python tests/standin/rootfs.py | xargs -r apt-get install -qq -y --no-install-recommends
	$(BIN)/python tests/standin/board_test.py

# The loop beside none, one, five and a stalled monitor, a hostile client, and a browser: 30 minutes.
soak-monitor: $(READY)
	mkdir -p build/soak
	$(BIN)/python benchmarks/soak_monitor.py --out docs/reports/monitor.json

# What the documentation's test only reads because it takes minutes: simulate, decompose, train, export,
# prune, as README and docs/train.md type them; 30 minutes.
soak-docs: $(READY)
	$(BIN)/python -m pytest tests/test_docs.py --slow-blocks -o timeout=7200 \
	  -k "README.md or train.md"

# 500 edits of a decomposition in a browser; 10 minutes.
soak-review: $(READY)
	$(BIN)/python benchmarks/soak_review.py --out docs/reports/review.json

# A bad line: a hundred million frames through the receiver in C, a million through the one in Python.
# Bad files: a hundred thousand of every format through its reader; an hour.
RX := runtime/receiver/fuzz_rx.c runtime/receiver/spikewire_rx.c
fuzz: $(READY)
	mkdir -p build
	$(CC) -std=c99 -O2 -DSPW_FUZZ_MAIN $(RX) -o build/fuzz_rx
	build/fuzz_rx 100000000
	$(BIN)/python benchmarks/fuzz_frames.py 1000000
	$(BIN)/python benchmarks/fuzz_files.py 100000

# models/reference.mub and what it scores on the muscle's next contraction; 7 minutes.
reference: $(READY)
	mkdir -p $(REF)
	$(BIN)/mu-simulate $(REF)/train.npz --truth $(REF)/train_truth.npz --seed 4 --duration 40 \
	  --ramp 0 --rest 0
	$(BIN)/mu-decompose $(REF)/train.npz --out $(REF)/labels.npz
	$(BIN)/mu-train $(REF)/train.npz --labels $(REF)/labels.npz --out $(REF)/model
	$(BIN)/mu-export $(REF)/model --out models/reference.mub --trt fp16
	$(BIN)/mu-simulate $(REF)/test.npz --truth $(REF)/truth.npz --seed 4 --contraction 1 \
	  --duration 30 --ramp 0 --rest 0
	$(BIN)/mu-run models/reference.mub --source replay:$(REF)/test.npz --pace max \
	  --trains $(REF)/decoded.npz
	$(BIN)/mu-score $(REF)/decoded.npz $(REF)/truth.npz --match --span 15:30 --json \
	  > $(REF)/score.json
	cp $(REF)/score.json models/reference.json

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation as a site; a warning is an error. To read it with its search:
# python3 -m http.server -d build/site
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html"

$(VENV)/.docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[docs]'
	@touch $@

NATIVE := CMakeLists.txt $(wildcard runtime/src/* runtime/include/*)

$(READY): pyproject.toml .ci/constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else \
	  "training needs Python 3.11 to 3.13, this is %d.%d; type: make demo PYTHON=python3.12" \
	  % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c .ci/constraints.txt \
	  -e '.[train-cpu,ort,study,web,dev]'
	@touch $@

clean:
	rm -rf $(VENV) out build
