# Every target does its own set-up. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help venv demo cluster llama-cpp test lint unit fuzz engine stores merge-tests gguf-tests awq-tests verify-tests cluster-tests gitops image-volumes platform served served-rollouts \
	e2e e2e-awq bench-merge bench-quantize bench-plan bench-adapters bench-fetch bench-serve format lock crds tables clean

BIN := .venv/bin
VENV := .venv/.installed
PYTEST := $(BIN)/python -m pytest
PYTHON_FILES := operator jobs tests requirements
WAITING := cluster-tests e2e
COMPUTING := lint unit engine verify-tests gguf-tests merge-tests stores
export PYTHON

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/^([a-z0-9-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 24

$(VENV): requirements/dev.txt requirements/uv.txt requirements/venv.sh pyproject.toml
	@requirements/venv.sh
	@touch $@

venv: $(VENV) ## make .venv/ with everything that is pinned, and .venv/bin/ftm

demo: $(VENV) ## no cluster: merge a real base and adapter, serve, ask both the same questions
	@$(BIN)/python -m tests.demo

cluster: llama-cpp ## the same on a Kubernetes of its own, until Ctrl-C
	@$(BIN)/python -m tests.cluster

llama-cpp: $(VENV) ## build llama.cpp for this machine, once: what makes and serves GGUF without a cluster
	@$(BIN)/python -m tests.llama_cpp >/dev/null

test: $(VENV) ## everything, in two lanes at once: linters, unit, engine, stores, merge, GGUF, verify, cluster and end-to-end tests
	@tests/lanes.sh "$(WAITING)" "$(COMPUTING)"

lint: $(VENV) ## ruff, mypy --strict and the import contracts
	@$(BIN)/ruff check $(PYTHON_FILES)
	@$(BIN)/ruff format --check $(PYTHON_FILES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

unit: $(VENV) ## pure tests, a minute
	@$(PYTEST) tests/unit

fuzz: $(VENV) ## passes over worlds that others edited at random, and random manifests in random worlds, ten minutes
	@FUZZ_EXAMPLES=20000 $(PYTEST) tests/unit/operator/reconcile/test_odd_worlds.py
	@FUZZ_EXAMPLES=3000 $(PYTEST) tests/unit/operator/reconcile/test_random_stories.py

engine: $(VENV) ## the planner, the guard and the adapters' agent judged by vLLM itself, without a GPU
	@$(PYTEST) tests/engine

stores: $(VENV) ## every store against a real S3 server, the file system and a fake of the hub, and pushes to a real registry
	@$(PYTEST) tests/stores

merge-tests: $(VENV) ## every kind of adapter against PEFT, and merges that are disturbed, killed or refused
	@$(PYTEST) tests/merge

gguf-tests: llama-cpp ## a real model to GGUF and back to answers
	@$(PYTEST) tests/gguf

awq-tests: $(VENV) ## AWQ's engines and vLLM on what they make, by hand; the first time 11 GB more in the user's cache
	@$(PYTEST) tests/awq

verify-tests: $(VENV) ## measured against what was trained: sound models pass, ruined ones are caught
	@$(PYTEST) tests/verify

cluster-tests: llama-cpp ## the operator against a real API server
	@$(PYTEST) tests/cluster

gitops: $(VENV) ## Argo CD and Flux for real, by hand: the first time 10 to 25 minutes of Go builds
	@$(PYTEST) tests/gitops

image-volumes: $(VENV) ## a published model mounted by containerd 2 and served by vLLM, by hand, as root: the first time 2 to 15 minutes of Go builds, and 14 GB in the user's cache
	@$(PYTEST) -s tests/image_volumes

platform: $(VENV) ## Canaries behind Traefik, a rollout under load, KEDA to zero and back, by hand, as root; the first time 10 to 25 minutes of Go builds
	@$(PYTEST) tests/platform

served: llama-cpp ## engines on a real node held against what was verified, and a node's cache, by hand, as root
	@$(PYTEST) -s tests/served --ignore tests/served/test_good_rollouts.py

served-rollouts: llama-cpp ## the same for twenty sound versions, of which none may be refused, by hand: half an hour
	@$(PYTEST) -s tests/served/test_good_rollouts.py

e2e: llama-cpp ## the whole path on a real node, with a real model
	@$(PYTEST) -s tests/e2e/test_story.py tests/e2e/test_adapters_story.py  # the stories are told while they happen

e2e-awq: $(VENV) ## the same with AWQ, by hand: 18 GB more in the user's cache
	@$(PYTEST) -s tests/e2e/test_awq_story.py

bench-merge: $(VENV) ## a merge beside copies and PEFT, of the same model, and their ratio; SIZE=0.1, 1.1, 8 or 70
	@$(BIN)/python -m tests.bench.merge --size $(or $(SIZE),1.1)

bench-quantize: llama-cpp ## every type and method: seconds, memory, size, divergence from the unquantized model
	@$(BIN)/python -m tests.bench.quantize

bench-plan: $(VENV) ## how long it takes to plan each public model of the tests
	@$(BIN)/python -m tests.bench.plan

bench-adapters: $(VENV) ## 10, 100 and 500 adapters beside a tiny base: until all answer, memory, tokens per second
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.adapters

bench-fetch: $(VENV) ## an artifact's fetch, proven, beside raw reads of the same objects of a real S3 server
	@$(BIN)/python -m tests.bench.fetched

bench-serve: llama-cpp ## merged, with an adapter beside, GGUF and transformers on one CPU; starts by part, a rollout under load
	@$(BIN)/python -m tests.bench.served

format: $(VENV) ## format, and fix what ruff can fix
	@$(BIN)/ruff check --fix $(PYTHON_FILES)
	@$(BIN)/ruff format $(PYTHON_FILES)

lock: $(VENV) ## pin requirements/*.txt anew from pyproject.toml
	@$(BIN)/python requirements/lock.py $(BIN)/uv

crds: $(VENV) ## write crds/, the chart's copy and the reference page from the models
	@$(BIN)/python -m ftm_operator.command.generated_files

tables: $(VENV) ## write jobs/ftm_jobs/transformers_tables/ from transformers itself
	@$(BIN)/python -m tests.tables.config_defaults
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.tables.weight_names

clean: ## remove what this folder's targets made; the user's cache stays
	rm -rf .venv .cache dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
