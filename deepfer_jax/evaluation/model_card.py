"""MODEL_CARD.md of an exported model, filled from what was measured.

    text = model_card("deepfer_jax/assets/tiny", "results/fer2013_tiny")

Every number comes from the model's metadata.json and from the evaluation's JSON files
in the second folder; nothing is written by hand but the words around them. After
Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993).
"""

import os
import pathlib

from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.metrics import wilson_interval
from deepfer_jax.evaluation.results import CORRUPTIONS, UNSEEN, VIEW_NAMES, read_json
from deepfer_jax.exported import ExportedModel

# Kinds of evaluations in a card's table, in words.
_KINDS = VIEW_NAMES | {
    f"none{UNSEEN}": "one view, without faces of which Training holds a near-copy"
}
_AUGMENTATION = (
    "flip", "rotation", "scale", "shift", "shear", "brightness", "contrast", "gamma",
    "crop", "blur", "erasing", "cover", "noise", "mixup_alpha", "cutmix_alpha",
)  # fmt: skip


_FER2013 = (
    "FER2013 (Goodfellow et al. 2013) was collected by an image search for words of "
    "emotion; many of its labels are wrong or arguable, and it holds copies of faces "
    "within and across its splits, which are left in, as in published numbers. The "
    "official test split (PrivateTest) has not been looked at."
)
_KNOWN_OF_DATA = {
    "fer2013": _FER2013,
    "ferplus": (
        "FER+ (Barsoum et al. 2016) has the faces of FER2013, each labelled by ten "
        "people: its labels agree more with what viewers see, and differ from "
        f"FER2013's on a third of the faces. {_FER2013}"
    ),
}
_LICENCE_OF_DATA = """The weights are given under the same terms as far
as that is ours to give: they were trained on FER2013, whose photographs were collected
from the web and shared for research, and whose rights stay with their owners. Check for
yourself whether that permits what you have in mind. No face of FER2013 is part of this
repository."""
_LICENCE_OF_OTHERS = """Of the weights, whoever owns the faces that they were trained on
should be asked."""


def model_card(model: str | os.PathLike, results: str | os.PathLike) -> str:
    """Returns the page, as Markdown.

    Args:
      model: the name of one that ships, or an exported folder; calibrated.
      results: holds config.json, and `<dataset>_<split>_<kind>.json` of one data set
        and split for the kinds none and corruptions, and flip, ten_crop and
        none_unseen where they were measured.

    Raises:
      UserError: a file is missing, or the results are of another network.
    """
    metadata = ExportedModel(model).metadata
    results = pathlib.Path(results)
    config = read_json(results / "config.json")
    singles = sorted(results.glob("*_none.json"))
    if len(singles) != 1:
        raise UserError(
            f"{results}: expected one file *_none.json, found {len(singles)}: "
            "evaluate the model on one split"
        )
    stem = singles[0].name.removesuffix("_none.json")
    views = {
        name: read_json(path)
        for name in _KINDS
        if (path := results / f"{stem}_{name}.json").exists()
    }
    if metadata["calibration"] is None:
        raise UserError(f"{model} was exported without calibration")
    corruptions = read_json(results / f"{stem}_{CORRUPTIONS}.json")
    parts = [
        _head(metadata, views["none"]),
        _use(),
        _data(config["dataset"]),
        _recipe(config, metadata),
        _numbers(views),
        _classes(views["none"]),
        _calibration(metadata["calibration"]),
        _corruptions(corruptions),
        _licence(config["dataset"]["name"]),
    ]
    return "\n\n".join(parts) + "\n"


def _head(metadata: dict, result: dict) -> str:
    model, shape = metadata["model"]["name"], metadata["input"]["shape"]
    return (
        f"# Model card: `{model}`\n\n"
        "Written by `scripts/model_card.py` from the files of the evaluation.\n\n"
        f"A residual convolutional network with {metadata['num_parameters']:,} "
        f"parameters. It reads one face, uint8 {shape[0]} x {shape[1]} "
        f"{metadata['input']['color']}, and gives calibrated probabilities of "
        f"{', '.join(metadata['classes'])}. Accuracy on {result['dataset']}, "
        f"{result['split']}: {result['accuracy']:.2%}."
    )


def _use() -> str:
    return """## Use

For research, and for applications whose users chose to have their expression read:
games, art, accessibility, human-computer interaction, user studies with consent.

**Not for** judging people. The network reads the expression that a picture shows, as
strangers would label it; it does not read what a person feels, means or is.
Expressions and their labels differ between cultures, ages and situations. Do not use it
to decide about anyone: hiring, school, policing, border control, insurance, health, lie
detection. Inferring emotions at work and in schools is prohibited in the European Union
(Regulation (EU) 2024/1689, Article 5 (1) (f)), but for medical or safety reasons.

In whole pictures MediaPipe's BlazeFace (Apache-2.0) finds the faces, which are turned
upright and cut out; the numbers below are of faces as FER2013 has them, already cut
out. They must be roughly frontal. Nothing is known of the people's age, gender or skin,
so neither is accuracy by such groups."""


def _data(dataset: dict) -> str:
    kind = dataset["name"].partition("/")[0]
    return (
        "## Data\n\n"
        f"Trained on {dataset['name']}, split `{dataset['train_split']}`; epochs, "
        f"temperature and threshold chosen on `{dataset['validation_split']}`. "
        + _KNOWN_OF_DATA.get(kind, "What is known of these faces, their owner knows.")
    )


def _start(config: dict, metadata: dict) -> str:
    """What the first weights were, and who taught."""
    model, distill = config["model"], config.get("distill", {})
    kept = metadata["classes"]
    if model.get("init_from"):
        start = f"From the weights of {model['init_from']}"
    elif model.get("pretrained"):
        start = f"From the weights of {model['pretrained']}, under a new head"
    else:
        start = "From random weights"
    if distill.get("teachers"):
        start += (
            f", taught {len(kept)} classes by {', '.join(distill['teachers'])} "
            f"(share {distill['weight']:g} of the loss, temperature "
            f"{distill['temperature']:g})"
        )
    return start


def _recipe(config: dict, metadata: dict) -> str:
    train, optimizer = config["train"], config["optimizer"]
    augment = ", ".join(
        f"{name} {config['augment'][name]:g}"
        for name in _AUGMENTATION
        if config["augment"].get(name)  # absent where it came later
    )
    best = metadata["metrics"]["validation"]
    return (
        "## Recipe\n\n"
        f"{_start(config, metadata)}, {train['num_epochs']} epochs of batches of "
        f"{train['batch_size']} by {optimizer['name']} (highest rate "
        f"{optimizer['learning_rate']:g}, {optimizer['schedule']} schedule, weight "
        f"decay {optimizer['weight_decay']:g}), label smoothing "
        f"{config['loss']['label_smoothing']:g}, moving average of weights "
        f"{train['ema_decay']:g}; augmentation: {augment or 'none'}. The weights are "
        f"those of epoch {best['epoch']}, the best on the validation split; one seed "
        f"({config['seed']})."
    )


def _numbers(views: dict[str, dict]) -> str:
    rows = [
        f"| {_KINDS[name]} | {r['n']:,} | {r['accuracy']:.2%} | "
        f"{r['accuracy_ci95'][0]:.2%} to "
        f"{r['accuracy_ci95'][1]:.2%} | {r['macro_f1']:.2%} | "
        f"{r['balanced_accuracy']:.2%} | {r['ece']:.2%} |"
        for name, r in views.items()
    ]
    first = next(iter(views.values()))
    return (
        "## Numbers\n\n"
        f"{first['dataset']}, {first['split']}, {first['n']:,} faces. This split chose "
        "the epoch, the temperature and the threshold, so its numbers are a little "
        "better than those of new faces.\n\n"
        "| evaluated on | faces | accuracy | 95 % interval | macro-F1 | "
        "balanced accuracy | calibration error |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
    )


def _classes(result: dict) -> str:
    rows = []
    for i, (name, row) in enumerate(result["per_class"].items()):
        hits = result["confusion_matrix"][i][i]
        low, high = wilson_interval(hits, row["support"])
        rows.append(
            f"| {name} | {row['support']:,} | {row['recall']:.1%} | {low:.1%} to "
            f"{high:.1%} | {row['precision']:.1%} | {row['f1']:.1%} |"
        )
    return (
        "By class, one view (Wilson's 95 % interval of the recall):\n\n"
        "| class | faces | recall | 95 % interval | precision | F1 |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(rows)
    )


def _calibration(fit: dict) -> str:
    return (
        "## Calibration\n\n"
        f"Temperature {fit['temperature']:.3f}, fitted on {fit['n']:,} faces of "
        f"{fit['split']}: expected calibration error (15 bins) "
        f"{fit['ece_before']:.2%} before, {fit['ece_after']:.2%} after "
        f"({fit['ece_after_cross_fitted']:.2%} when fitted on one half and measured "
        "on the other). A face is called `unsure` below probability "
        f"{fit['threshold']:.3f}: {fit['coverage']:.1%} of the faces are above "
        f"it, and {fit['target_accuracy']:.0%} of those are classified correctly."
    )


def _corruptions(result: dict) -> str:
    rows = [
        f"| {name.replace('_', ' ')} | "
        + " | ".join(f"{x:.1%}" for x in (*row, result["mean_accuracy"][name]))
        + " |"
        for name, row in result["accuracy"].items()
    ]
    severities = " | ".join(map(str, result["severities"]))
    return (
        "## Robustness\n\n"
        "Accuracy under corruptions at five severities; "
        f"{result['clean_accuracy']:.1%} without, "
        f"{result['mean_corruption_accuracy']:.1%} on average with.\n\n"
        f"| corruption | {severities} | mean |\n"
        f"|{'---|' * (len(result['severities']) + 2)}\n" + "\n".join(rows)
    )


def _licence(dataset: str) -> str:
    kind = dataset.partition("/")[0]
    weights = _LICENCE_OF_DATA if kind in _KNOWN_OF_DATA else _LICENCE_OF_OTHERS
    return f"## Licence\n\nCode: Apache-2.0. {weights}"
