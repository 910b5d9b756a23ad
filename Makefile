# The words people and CI use. `make serve` and `make test` set everything up by themselves.

PYTHON ?= python3
PORT ?= $(or $(AFTERFRAME_PORT),8000)
# PyTorch's own index of CPU builds; on a machine with a GPU, `make setup TORCH_INDEX=` takes the default build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: .venv/.service .venv/.dev ## installs everything into .venv

serve: .venv/.service ## serves on 127.0.0.1:$(PORT) until Ctrl-C
	@AFTERFRAME_PORT=$(PORT) exec $(BIN)/python -m app

test: .venv/.dev ## the tests, in minutes; a file's are run in order by one process
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: .venv/.dev ## the tests that take longer
	$(BIN)/pytest -m slow

test-robustness: .venv/.dev ## attacks on a running service, an hour or more; SEED, SOAK_SECONDS and all of tests/robustness/scale.py
	$(BIN)/pytest -m robustness -rP

# In an environment of their own: they look at what is pinned, and are no part of it.
audit: build/audit/bin/pip-audit ## known vulnerabilities of everything pinned; build/sbom.json, in CycloneDX
	build/audit/bin/cyclonedx-py requirements --output-file build/sbom.json constraints.txt
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

build/audit/bin/pip-audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1 cyclonedx-bom==7.5.0

check: .venv/.dev ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: .venv/.dev ## formats and mends what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: .venv/.service ## writes docs/openapi.json
	$(BIN)/python -c "$$PRINT_OPENAPI" > docs/openapi.json

# What made the shipped models, and what repeats their figures. DATA is a CSV or folder; docs/data.md says where from.
TRAINER := $(BIN)/python -m trainer
CELL ?= gru
SEED ?= 0

train-camera: .venv/.dev ## trains `camera` on scenes made of frames of DATA, videos of any kind, an hour and a half; CELL, SEED
	$(TRAINER) train classify --name camera --data $(DATA) --recipe trainer/recipes/camera.yaml \
	  --cell $(CELL) --seed $(SEED) --threads 1 --loaders 1 --output runs/camera-$(CELL)-$(SEED) --no-publish \
	  --data-name "scenes generated from frames of UCF101, six classes, and of Surveillance Camera Fight" \
	  --data-license "UCF101: none stated, collected for research; Surveillance Camera Fight: MIT" \
	  --data-source "https://www.crcv.ucf.edu/data/UCF101.php, https://github.com/seymanurakti/fight-detection-surv-dataset"

train-motion: .venv/.dev ## draws clips and trains `motion` on them, a minute
	$(TRAINER) generate motion --output runs/motion-data --count 120 --seed 0
	$(TRAINER) generate motion --output runs/motion-test --count 20 --seed 1
	$(TRAINER) train classify --name motion --data runs/motion-data --test-data runs/motion-test \
	  --recipe trainer/recipes/motion.yaml --threads 1 --data-name "generated motion" --data-license CC0-1.0 \
	  --data-source "python -m trainer generate motion" \
	  --summary "Tells which way something moves in a drawn video: down, left, right, up, or not at all."

UCF101 := --data-name "UCF101, six classes" --data-license "none stated; collected for research" \
	  --data-source https://www.crcv.ucf.edu/data/UCF101.php

ACTIONS := $(TRAINER) train classify --name actions --data $(DATA) --recipe trainer/recipes/actions.yaml \
	  --val-fraction 0 --threads 1 --no-publish $(UCF101)

train-actions: .venv/.dev ## trains `actions` on all of DATA but its test split, half an hour; CELL, SEED
	$(ACTIONS) --cell $(CELL) --seed $(SEED) --output runs/actions-$(CELL)-$(SEED)

train-actions-taught: .venv/.dev ## trains it twice more, taught by three such runs (gru 0, gru 1, lstm 0), then by all four; two hours
	$(ACTIONS) --seed 2 --set budget.num_epochs=150 --weights runs/actions-gru-0/model.pt \
	  --teachers runs/actions-gru-0 runs/actions-lstm-0 runs/actions-gru-1 --output runs/actions-taught
	$(ACTIONS) --seed 3 --output runs/actions-taught-twice \
	  --teachers runs/actions-gru-0 runs/actions-lstm-0 runs/actions-gru-1 runs/actions-taught

train-forecast: .venv/.dev ## trains `forecast` on DATA, under half an hour; CELL, SEED
	$(TRAINER) train predict --name forecast --data $(DATA) --recipe trainer/recipes/forecast.yaml --val-fraction 0.05 \
	  --cell $(CELL) --seed $(SEED) --threads 1 --output runs/forecast-$(CELL)-$(SEED) --no-publish $(UCF101)

train-forecast-mnist: .venv/.dev ## the first 18 epochs of `forecast-mnist`, on MNIST, a folder with its training digits, an hour; CELL, SEED
	$(TRAINER) train predict --name forecast-mnist --data $(MNIST) --test-data $(MOVING_MNIST) \
	  --recipe trainer/recipes/forecast-mnist.yaml --cell $(CELL) --seed $(SEED) --threads 1 \
	  --output runs/forecast-mnist-$(CELL)-$(SEED) --no-publish --data-name "MNIST, moving" \
	  --data-license CC-BY-SA-3.0 --data-source https://yann.lecun.com/exdb/mnist

train-describe: .venv/.dev ## trains `describe` on scenes made of stills of DATA, videos of any kind, an hour and a half; CELL, SEED
	$(TRAINER) train caption --name describe --data $(DATA) --recipe trainer/recipes/describe.yaml --val-fraction 0 \
	  --cell $(CELL) --seed $(SEED) --threads 1 --loaders 2 --output runs/describe-$(CELL)-$(SEED) --no-publish \
	  --data-name "scenes drawn from stills of UCF101 (six classes) and of surveillance clips" \
	  --data-license "none stated; collected for research" --data-source https://www.crcv.ucf.edu/data/UCF101.php

EMOTION := $(TRAINER) train classify --name emotion --data $(DATA) --recipe trainer/recipes/emotion.yaml \
	  --val-fraction 0 --threads 1 --no-publish --data-name "RAVDESS, actors 1-16 (speech, audio)" \
	  --data-license CC-BY-NC-SA-4.0 --data-source https://zenodo.org/records/1188976

train-emotion: .venv/.dev ## trains three teachers of `emotion` on DATA, a list of RAVDESS, then the one they teach; an hour; CELL, SEED
	$(EMOTION) --cell gru --seed 1 --output runs/emotion-teacher-gru
	$(EMOTION) --cell lstm --seed 1 --output runs/emotion-teacher-lstm
	$(EMOTION) --cell gru --seed 2 --set network.centred=false --output runs/emotion-teacher-uncentred
	$(EMOTION) --cell $(CELL) --seed $(SEED) --output runs/emotion-$(CELL)-$(SEED) \
	  --teachers runs/emotion-teacher-gru runs/emotion-teacher-lstm runs/emotion-teacher-uncentred

train-fight: .venv/.dev ## trains `fight` on DATA, a list of Surveillance Camera Fight, in two minutes; CELL, SEED
	$(TRAINER) train classify --name fight --data $(DATA) --recipe trainer/recipes/fight.yaml --val-fraction 0 \
	  --cell $(CELL) --seed $(SEED) --threads 1 --output runs/fight-$(CELL)-$(SEED) --no-publish \
	  --data-name "Surveillance Camera Fight" --data-license MIT \
	  --data-source https://github.com/seymanurakti/fight-detection-surv-dataset

train-digits: CELL = lstm
train-digits: .venv/.dev ## trains `digits` on DATA, a list of FSDD; CELL, SEED
	$(TRAINER) train classify --name digits --data $(DATA) --recipe trainer/recipes/digits.yaml --val-fraction 0 \
	  --cell $(CELL) --seed $(SEED) --threads 1 --output runs/digits-$(CELL)-$(SEED) --no-publish \
	  --data-name "Free Spoken Digit Dataset" --data-license CC-BY-SA-4.0 \
	  --data-source https://github.com/Jakobovski/free-spoken-digit-dataset

train-audio-features: .venv/.dev ## trains `audio-features` on the sounds of DATA, labels or none; CELL, SEED
	$(TRAINER) train features --name audio-features --data $(DATA) --recipe trainer/recipes/audio-features.yaml \
	  --val-fraction 0.05 --cell $(CELL) --seed $(SEED) --threads 1 --output runs/audio-features-$(CELL)-$(SEED) --no-publish \
	  --data-name "Free Spoken Digit Dataset (train), RAVDESS (actors 1-16), UCF101 (sound tracks of six classes, train)" \
	  --data-license "CC-BY-SA-4.0; CC-BY-NC-SA-4.0; none stated for UCF101" --data-source \
	  "https://github.com/Jakobovski/free-spoken-digit-dataset, https://zenodo.org/records/1188976, https://www.crcv.ucf.edu/data/UCF101.php"

eval-camera: .venv/.bench ## `camera` beside a classical estimate: scenes of DATA, joined clips of DATA, labelled clips in CLIPS
	$(BIN)/python -m bench.camera scenes --data $(DATA) --split test --count 120 --model camera
	$(BIN)/python -m bench.camera_joins --data $(DATA) --split test --model camera
	$(BIN)/python -m bench.camera clips --data $(CLIPS) --model camera

eval-motion: .venv/.dev ## draws other clips and evaluates `motion` on them
	$(TRAINER) generate motion --output runs/motion-eval --count 60 --seed 2
	$(TRAINER) evaluate --model motion --data runs/motion-eval

eval-actions: .venv/.dev ## evaluates `actions` on the test split of DATA
	$(TRAINER) evaluate --model actions --data $(DATA) --split test

eval-forecast: .venv/.bench ## `forecast` beside copying and optical flow on the test split of DATA; splices found
	$(BIN)/python -m bench.forecast videos --data $(DATA) --split test
	$(BIN)/python -m bench.forecast surprise --data $(DATA) --split test

eval-forecast-mnist: .venv/.bench ## `forecast-mnist` on MOVING_MNIST, an .npz of sequences: MSE, MAE, SSIM, FLOPs
	$(BIN)/python -m bench.forecast digits --data $(MOVING_MNIST) --model forecast-mnist

eval-describe: .venv/.dev ## what `describe` says of scenes made of stills of the test split of DATA, fact by fact
	$(BIN)/python -m bench.comments --data $(DATA) --split test --count 600

eval-emotion: .venv/.dev ## evaluates `emotion` on the test split of DATA
	$(TRAINER) evaluate --model emotion --data $(DATA) --split test

eval-fight: .venv/.dev ## evaluates `fight` on the test split of DATA, then trains it anew for each of five parts of DATA; CELL, SEED
	$(TRAINER) evaluate --model fight --data $(DATA) --split test
	$(BIN)/python -m bench.cross_validation --data $(DATA) --by '(\d+)' --folds 5 --alarm fight \
	  --recipe trainer/recipes/fight.yaml --cell $(CELL) --seed $(SEED) --runs runs/fight-folds-$(CELL)-$(SEED)

eval-digits: .venv/.dev ## evaluates `digits` on the test split of DATA
	$(TRAINER) evaluate --model digits --data $(DATA) --split test

eval-audio-features: .venv/.bench ## linear probe of `audio-features` on FSDD and RAVDESS, lists of the two
	$(BIN)/python -m bench.probe --module model_store/audio-features/4/model.pt --fsdd $(FSDD) --ravdess $(RAVDESS)

bench: .venv/.bench ## CPU, rate, latency and memory beside the limit and a naive service; writes bench/results.md
	$(BIN)/python -m bench.performance

bench-peers: .venv/.bench build/peers-venv/.done ## LitServe, mosec and BentoML beside the service; writes bench/peers.md
	$(BIN)/python -m bench.peers.run

# In an environment of their own: what they depend on is not what the service depends on.
build/peers-venv/.done:
	$(PYTHON) -m venv build/peers-venv
	@torch=$$(sed -n 's/^\(torch==.*\)/\1/p' constraints.txt); pip="build/peers-venv/bin/pip install --quiet --disable-pip-version-check"; \
	{ [ -n "$(TORCH_INDEX)" ] && $$pip --retries 0 --timeout 8 --index-url $(TORCH_INDEX) "$$torch" 2>/dev/null; } || $$pip "$$torch"
	build/peers-venv/bin/pip install --quiet --disable-pip-version-check \
	  litserve==0.2.19 mosec==0.9.8 bentoml==1.4.39 $$(grep -E '^(av|numpy)==' constraints.txt)
	@touch $@

bench-accuracy: .venv/.dev ## accuracy of `actions` on DATA through the running service
	$(BIN)/python -m bench.accuracy --model actions --data $(DATA)

bench-timelines: .venv/.dev ## timelines of joined clips of DATA
	$(BIN)/python -m bench.timelines --model actions --data $(DATA)

bench-memory: .venv/.dev ## memory for ten seconds and for two hours of VIDEO
	$(BIN)/python -m bench.memory $(VIDEO)

bench-growth: .venv/.dev ## CPU time and memory by the length of the video
	$(BIN)/python -m bench.growth

bench-fast: .venv/.dev ## sampling=fast on the test split of DATA, encoded with a key frame each second
	$(BIN)/python -m bench.fast --data $(DATA)

bench-training: .venv/.dev ## an epoch on DATA beside the bare forward and backward pass
	$(BIN)/python -m bench.training --data $(DATA)

bench-uploads: .venv/.dev ## how fast 64 MiB come in, raw and as a form, beside a bare Starlette application
	$(BIN)/python -m bench.uploads

bench-streams: .venv/.dev ## live streams: frames per second by sessions, cameras that keep up, memory
	$(BIN)/python -m bench.streams --model actions

bench-early-exit: .venv/.dev ## what early_exit spares on the test split of DATA, and which answers change
	$(BIN)/python -m bench.early_exit --model actions --data $(DATA)

bench-events: .venv/.dev ## two hours of VIDEO in events: first result, memory, a client that leaves
	$(BIN)/python -m bench.events $(VIDEO)

define PRINT_OPENAPI
import json
from app.config import Settings
from app.main import create_app
print(json.dumps(create_app(Settings()).openapi(), indent=2))
endef
export PRINT_OPENAPI

clean: ## removes the environment and what runs left
	rm -rf .venv runs cache build *.egg-info

# torch first and alone, so that nothing else pulls the build with CUDA. The index is tried once, briefly:
# behind a firewall the ordinary package index (or a local wheel) serves as well.
.venv/.torch: constraints.txt
	$(PYTHON) -m venv .venv
	@torch=$$(sed -n 's/^\(torch==.*\)/\1/p' constraints.txt); \
	{ [ -n "$(TORCH_INDEX)" ] && $(PIP) --retries 0 --timeout 8 --index-url $(TORCH_INDEX) "$$torch" 2>/dev/null; } \
	  || $(PIP) "$$torch"
	@touch $@

.venv/.service: .venv/.torch pyproject.toml
	$(PIP) --editable .
	@touch $@

.venv/.dev: .venv/.service
	$(PIP) --editable '.[trainer,dev]'
	@touch $@

.venv/.bench: .venv/.dev
	$(PIP) --editable '.[bench]'
	@touch $@
