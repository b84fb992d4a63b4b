# make train   set up, train on the embedded faces, evaluate, export
# make test    set up, run the test suite
# make demo    set up, serve the page that reads a camera, pictures and videos
# make soak    set up, and see for half an hour whether it holds up
# make reproduce MODEL=tiny
#              train configs/fer2013_tiny.py on data/ again, evaluate it, and compare
#              with results/fer2013_tiny
#
# make lint    ruff, mypy, hadolint, and whether the documents' tables are what results/ says
# make docs    the site, in build/docs
# make web     the page that needs no server, for any web host, in build/web (npm)
# make dist    wheel and source, in build/dist
#
# make assets  export the models that ship again, with the jax that is installed
#
# FRESH=1      with `train` and `reproduce`: start over
# JAX=cuda13   with either: the accelerator's jax (cuda13 or tpu)
# PARITY=1     with `test`: also against PyTorch and dlib, and with Beam, which it installs
# PYTHON=...   the interpreter that makes .venv (3.11 or 3.12)

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c "import venv" 2>/dev/null && echo $$p && break; done)
JAX ?=
RUN := runs/quickstart
QUICKSTART := models/quickstart
MODEL ?= tiny
AGAIN := runs/reproduce_$(MODEL)
AGAIN_MODEL := models/reproduce_$(MODEL)
KIND := fer2013_public_test_none.json
BIN := .venv/bin
comma := ,
EXTRAS := train,demo,video,tables,tflite,bulk,dev$(if $(PARITY),$(comma)parity)$(if $(JAX),$(comma)$(JAX))
# Beam asks for older protobuf and pyarrow than the lock's, and works with these too.
BEAM := apache-beam beartype dnspython fastavro fasteners httplib2 jsonpickle objsize \
	proto-plus pymongo pyparsing pytz sortedcontainers zstandard
STAMP := .venv/installed-$(subst $(comma),-,$(EXTRAS))

# What MediaPipe publishes its detectors in, for PARITY=1.
BLAZEFACE := downloads/mediapipe_face_detection
PORT ?= 8000
ASSETS := deepfer_jax/assets
SHIPPED = $(notdir $(patsubst %/,%,$(dir $(wildcard $(ASSETS)/*/metadata.json))))

.PHONY: train demo soak reproduce assets test lint docs web dist install clean

train: install
ifdef FRESH
	rm -rf $(RUN) $(QUICKSTART)
endif
	$(BIN)/python -m deepfer_jax.main --config configs/quickstart.py --workdir $(RUN)
	$(BIN)/python scripts/evaluate.py --workdir $(RUN) --dataset synthetic_faces --split test
	$(BIN)/python scripts/export.py --workdir $(RUN) --out $(QUICKSTART)
	@echo
	@echo "results:  $(RUN)/eval/synthetic_faces_full_test_none.json, $(RUN)/metrics.jsonl"
	@echo "model:    $(QUICKSTART)"
	@echo "next:     $(BIN)/python scripts/predict.py --model $(QUICKSTART) FACE.png"

demo: install
	$(BIN)/python -m deepfer_jax.demo --port $(PORT)

soak: install
	$(BIN)/python scripts/soak.py --out results/soak.json

reproduce: install
ifdef FRESH
	rm -rf $(AGAIN) $(AGAIN_MODEL)
endif
	$(BIN)/python -m deepfer_jax.main --config configs/fer2013_$(MODEL).py --workdir $(AGAIN)
	$(BIN)/python scripts/export.py --workdir $(AGAIN) --out $(AGAIN_MODEL)
	$(BIN)/python scripts/evaluate.py --model $(AGAIN_MODEL) --dataset fer2013 --split public_test
	$(BIN)/python scripts/compare.py $(AGAIN_MODEL)/eval/$(KIND) results/fer2013_$(MODEL)/$(KIND)

assets: install
	for model in $(SHIPPED); do \
		$(BIN)/python scripts/export.py --model $$model --out $(ASSETS)/$$model || exit 1; \
	done

test: install $(if $(PARITY),$(BLAZEFACE))
	BLAZEFACE_FOLDER=$(if $(PARITY),$(abspath $(BLAZEFACE))) \
		$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

$(BLAZEFACE):
	mkdir -p $@
	-cd $@ && npm pack --silent @mediapipe/face_detection@0.4.1657300184 \
		&& tar -xzf *.tgz --strip-components=1

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/tables.py --check
	$(BIN)/hadolint Dockerfile

docs: install
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[docs]"
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --quiet
	@echo "build/docs/index.html"

web: install
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[onnx]"
	npm ci --prefix web --ignore-scripts --no-audit --no-fund --silent
	$(BIN)/python scripts/build_web.py --model $(MODEL) --out build/web

dist: install
	rm -rf build/dist
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/twine check --strict build/dist/*

install: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[$(EXTRAS)]"
	$(if $(PARITY),$(BIN)/python -m pip install --quiet --no-deps --constraint requirements.lock $(BEAM))
	@touch $@

clean:
	rm -rf .venv runs models build
