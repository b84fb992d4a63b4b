# make train   set up, train on the embedded faces, evaluate, export
# make test    set up, run the test suite
#
# FRESH=1      with `train`: start over
# JAX=cuda13   with either: the accelerator's jax (cuda13 or tpu)
# PYTHON=...   the interpreter that makes .venv (3.11 or 3.12)

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c "import venv" 2>/dev/null && echo $$p && break; done)
JAX ?=
RUN := runs/quickstart
MODEL := models/quickstart
BIN := .venv/bin
comma := ,
EXTRAS := train,dev$(if $(JAX),$(comma)$(JAX))
STAMP := .venv/installed-$(subst $(comma),-,$(EXTRAS))

.PHONY: train test lint install clean

train: install
ifdef FRESH
	rm -rf $(RUN) $(MODEL)
endif
	$(BIN)/python -m deepfer_jax.main --config configs/quickstart.py --workdir $(RUN)
	$(BIN)/python scripts/evaluate.py --workdir $(RUN) --dataset synthetic_faces --split test
	$(BIN)/python scripts/export.py --workdir $(RUN) --out $(MODEL)
	@echo
	@echo "results:  $(RUN)/eval/synthetic_faces_test_none.json, $(RUN)/metrics.jsonl"
	@echo "model:    $(MODEL)"
	@echo "next:     $(BIN)/python scripts/predict.py --model $(MODEL) FACE.png"

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

install: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[$(EXTRAS)]"
	@touch $@

clean:
	rm -rf .venv runs models build
