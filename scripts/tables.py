"""Fills the tables of README.md and docs/ from the files of results/.

python scripts/tables.py            # writes them
python scripts/tables.py --check    # exits with 1 where one is not what the files say

A table stands between the lines `<!-- table NAME -->` and `<!-- end -->`.
"""

import argparse
import csv
import json
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

from measuring.scaling import estimate

from deepfer_jax import errors

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "results"
_GRADIENTS = 4 * 23_522_375  # bytes of ResNet-50's, as docs/training.md counts them
_TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHIPPED = {
    "tiny": ("ferplus_tiny", "FER+"),
    "small": ("ferplus_small", "FER+"),
    "fer2013_tiny": ("fer2013_tiny", "FER2013"),
}
_KINDS = {
    "none": "one",
    "ten_crop": "ten crops",
    "none_unseen": "one, faces that Training lacks",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        old = path.read_text()
        new = _TABLE.sub(lambda m: m[1] + TABLES[m[2]]() + m[3], old)
        if new != old:
            stale.append(str(path.relative_to(ROOT)))
            if not args.check:
                path.write_text(new)
    print("\n".join(stale) or "every table is what results/ says")
    return 1 if args.check and stale else 0


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read(*parts: str) -> dict:
    return json.loads(RESULTS.joinpath(*parts).read_text())


def evaluation(folder: str, kind: str) -> dict | None:
    """The evaluation of PublicTest of that kind in a folder of results/."""
    paths = list((RESULTS / folder).glob(f"*_public_test_{kind}.json"))
    return json.loads(paths[0].read_text()) if paths else None


def percent(x: float, digits: int = 2) -> str:
    return f"{100 * x:.{digits}f} %"


def interval(result: dict) -> str:
    low, high = (100 * x for x in result["accuracy_ci95"])
    return f"{low:.2f} to {high:.2f}"


def quality() -> str:
    """What stays sure, and how much of it is right, without quality and with it."""
    model = read("quality.json")["models"][0]
    rows = [("as they are", model["clean"])]
    rows += [
        (f"{name.replace('_', ' ')}, severity {i}", severities[i - 1])
        for name, severities in model["corruptions"].items()
        if name in ("covered_eyes", "covered_mouth", "blur", "motion_blur", "noise")
        for i in (3, 5)
    ]
    rows += [(f"turned by {row['yaw']}", row) for row in model["turned"] if row["yaw"]]
    head = ["faces", "right", "sure by probability", "of them right"]
    return table(
        [*head, "sure with quality", "of them right"],
        [
            [
                name,
                percent(row["accuracy"], 1),
                *(
                    percent(row[kind][number], 1)
                    for kind in ("by_probability", "with_quality")
                    for number in ("coverage", "accuracy")
                ),
            ]
            for name, row in rows
        ],
    )


def shipped() -> str:
    """What ships, in one view, with speed and photographs."""
    photos = {
        (row["model"], row["detector"]): row
        for row in json.loads((RESULTS / "photos.json").read_text())
        if "detector" in row  # the others have none
    }
    rows = []
    for name, (folder, labels) in _SHIPPED.items():
        one = evaluation(folder, "none")
        corrupted = evaluation(folder, "corruptions")["mean_corruption_accuracy"]
        wild = photos[name, "auto"]
        model = json.loads(
            (ROOT / "deepfer_jax" / "assets" / name / "metadata.json").read_text()
        )
        rows.append(
            [
                f"`{name}`",
                f"{model['num_parameters'] / 1e6:.2f} M",
                f"{labels}, {one['n']:,} faces",
                f"{percent(one['accuracy'])} ({interval(one)})",
                percent(one["macro_f1"]),
                percent(corrupted, 1),
                f"{wild['right']} of {wild['read']}",
            ]
        )
    head = ["model", "parameters", "labels", "accuracy (95 % interval)", "macro-F1"]
    return table([*head, "under corruptions", "photographs"], rows)


def views() -> str:
    """What ships, by every way of evaluating it that was measured."""
    rows = []
    for name, (folder, labels) in _SHIPPED.items():
        for kind, said in _KINDS.items():
            if result := evaluation(folder, kind):
                rows.append(
                    [
                        f"`{name}`",
                        f"{labels}, {result['n']:,} faces",
                        said,
                        percent(result["accuracy"]),
                        interval(result),
                        percent(result["macro_f1"]),
                        percent(result["balanced_accuracy"]),
                        percent(result["ece"]),
                    ]
                )
    head = ["model", "labels", "views", "accuracy", "95 % interval", "macro-F1"]
    return table([*head, "balanced accuracy", "calibration error"], rows)


def others() -> str:
    """Networks that were trained and do not ship."""
    rows = []
    for folder in (
        "fer2013_small",
        "fer2013_small_clean",
        "fer2013_base",
        "fer2013_mobilenet",
        "fer2013_small_taught",
        "fer2013_tiny_taught",
        "ferplus_majority",
    ):
        for kind in ("none", "ten_crop"):
            if result := evaluation(folder, kind):
                rows.append(
                    [
                        f"`{folder}`",
                        f"{result['dataset'].rpartition('/')[0]}, {result['n']:,}",
                        _KINDS[kind],
                        percent(result["accuracy"]),
                        interval(result),
                        percent(result["macro_f1"]),
                    ]
                )
    head = ["recipe", "faces", "views", "accuracy", "95 % interval", "macro-F1"]
    return table(head, rows)


def corruptions() -> str:
    """Accuracy by corruption, the mean over its severities."""
    measured = {
        name: evaluation(folder, "corruptions")
        for name, (folder, _) in _SHIPPED.items()
    }
    first = next(iter(measured.values()))
    rows = [
        [kind.replace("_", " ")]
        + [percent(result["mean_accuracy"][kind], 1) for result in measured.values()]
        for kind in first["mean_accuracy"]
    ]
    for said, key in (("mean", "mean_corruption_accuracy"), ("none", "clean_accuracy")):
        rows.append([said, *(percent(result[key], 1) for result in measured.values())])
    return table(["corruption", *(f"`{name}`" for name in measured)], rows)


def peers() -> str:
    """What others ship, on the same faces."""
    ours = evaluation("fer2013_tiny", "none")
    rows = [
        [
            "`deepfer_jax` fer2013_tiny",
            "222,743",
            percent(ours["accuracy"]),
            f"{percent(ours['ece'], 1)} (PublicTest)",
            "epoch chosen on PublicTest",
        ]
    ]
    with open(RESULTS / "peers.csv", newline="") as file:
        found = sorted(
            csv.DictReader(file), key=lambda row: -float(row["public_test_accuracy"])
        )
    rows += [
        [
            row["model"],
            f"{int(row['parameters']):,}",
            percent(float(row["public_test_accuracy"])),
            percent(float(row["private_test_ece"]), 1),
            row["note"],
        ]
        for row in found
    ]
    head = ["model", "parameters", "PublicTest", "calibration error (PrivateTest)"]
    return table([*head, "note"], rows)


def fine_tuning() -> str:
    """dlib's ResNet-29, six epochs of each way to fine-tune it."""
    said = {
        "all": "everything from the start",
        "gradual": "the head; then the last two stages; then all",
        "random": "everything, from random weights",
        "last_stage": "the head and the last stage",
        "frozen": "the head",
    }
    rows = []
    for name, what in said.items():
        result = evaluation(f"fer2013_dlib/{name}", "none")
        rows.append(
            [
                f"`{name}`",
                what,
                percent(result["accuracy"]),
                interval(result),
                percent(result["macro_f1"]),
            ]
        )
    head = ["`configs/fer2013_dlib_finetune.py:`", "trained", "accuracy"]
    return table([*head, "95 % interval", "macro-F1"], rows)


def detectors() -> str:
    """Faces found in photographs and read, with `tiny` and by others."""
    rows = []
    for row in json.loads((RESULTS / "photos.json").read_text()):
        ours = "detector" in row
        if ours and row["model"] != "tiny":
            continue
        rows.append(
            [
                f"`tiny`, `{row['detector']}`" if ours else row["model"],
                f"{row['found']} of {row['faces']}",
                f"{row['false']} ({row['false_without_faces']})",
                f"{row['right']} of {row['read']}",
                f"{row['sure_right']} of {row['sure']}" if ours else "",
                f"{1e3 * row['median_s']:.0f} ms" if ours else "",
            ]
        )
    head = ["reader", "faces found", "false (without faces)", "emotions right"]
    return table([*head, "of those sure", "a photograph"], rows)


def delivery() -> str:
    """PublicTest's faces in textured frames, by size, beside `fer`."""
    rows = json.loads((RESULTS / "delivery.json").read_text())
    kept = {
        (row["dataset"], row["width"], row["reader"]): row
        for row in rows
        if row["split"] == "public_test"
    }
    lines = []
    for (dataset, width, reader), plus in kept.items():
        if dataset == "fer2013":
            continue
        own = kept["fer2013", width, reader]
        found, n = plus["found"], plus["n"]
        lines.append(
            [
                str(width),
                f"`{reader}`",
                percent(found / n, 1),
                percent(plus["uncut"] / found, 1) if reader != "fer" else "",
                percent(plus["right"] / found, 1),
                percent(plus["right"] / n, 1),
                percent(own["right"] / own["n"], 1),
            ]
        )
    head = ["width", "reader", "found", "right as they are", "right as delivered"]
    return table([*head, "found and right", "by FER2013's labels"], lines)


def explanations() -> str:
    """What the highest tenth of a heat map is worth."""
    names = {
        "occlusion": "the highest tenth of the occlusion map",
        "grad_cam": "the highest tenth of Grad-CAM",
        "random_pixels": "a random tenth, single pixels",
        "moved_occlusion": "another face's tenth, moved anywhere",
    }
    models = json.loads((RESULTS / "explain.json").read_text())
    rows = [
        [said, *(f"{100 * model['falls'][name]:.1f} points" for model in models)]
        for name, said in names.items()
    ]
    return table(["hidden", *(f"`{model['model']}`" for model in models)], rows)


def realtime() -> str:
    """A camera's frame of 640 x 480, beside `fer`."""
    kept = read("benchmark_cpu_realtime.json")
    places = ((2, 1), (2, 4), (2, 16), (1, 1))
    rows = []
    for name, runs in (("deepfer_jax", kept["runs"]), ("fer", kept["fer"]["runs"])):
        by_place = {(run["cores"], run["faces"]): run for run in runs}
        times = [by_place[place] for place in places]
        cells = [
            f"{run['whole']['p50_ms']:.1f} ms"
            + ("" if run["found"] == run["faces"] else f" ({run['found']} found)")
            for run in times
        ]
        rows.append([f"`{name}`", *cells])
    return table(["", "1 face", "4 faces", "16 faces", "on one core, 1 face"], rows)


def start_up() -> str:
    """Seconds from the start of Python to the first answer."""
    kept = read("benchmark_cpu_realtime.json")["start_up"]
    said = {
        "first": "`deepfer_jax`, its very first process (compiles)",
        "second": "`deepfer_jax`, every process after that",
        "fer": "`fer`",
    }
    rows = [[text, f"{kept[key]['total_s']:.1f} s"] for key, text in said.items()]
    return table(["process", "first answer after"], rows)


def to_torch() -> str:
    """Speed over PyTorch's, in one run on the same cores."""
    rows = []
    for name in ("train", "train_dlib", "infer"):
        kept = read(f"benchmark_cpu_{name}.json")
        work = {"train": "training", "infer": "inference"}[kept["command"]]
        rows += [
            [work, f"`{row['model']}`", str(row["batch_size"]), f"{row['ratio']:.2f}"]
            for row in kept["comparisons"]
            if row["name"] == "jax_over_torch"
        ]
    return table(["work", "network", "batch", "our speed / PyTorch's"], rows)


def bulk() -> str:
    """Pictures in bulk: what kills left, speed beside the Analyzer, memory."""
    kept = read("bulk.json")
    kills, speed = kept["kills"], kept["speed"]
    at = kills["killed_at_rows"]
    rows = [
        [
            f"{kills['pictures']:,} pictures, a worker killed at {at['worker']:,} rows "
            f"and a node at {at['node']:,}",
            f"{kills['rows']:,} rows; {kills['missing']} missing, {kills['twice']} "
            f"twice, {kills['different']} other than one process's",
        ]
    ]
    said = {
        "ray_1": "one worker over a loop of the Analyzer on one core",
        "ray_2": "two workers over two such loops at once",
        "threads_2": "without Ray, two threads over two such loops",
    }
    for name, what in said.items():
        core, wall = speed["per_core"][name], speed["wall"][name]
        rows.append(
            [
                what,
                f"{core['ratio']:.2f} of its pictures in the same time of cores "
                f"({core['lowest']:.2f} to {core['highest']:.2f}); {wall['ratio']:.2f} "
                f"by the clock ({wall['lowest']:.2f} to {wall['highest']:.2f})",
            ]
        )
    rows += [
        [f"memory of the command, {row['files']:,} files", f"{row['most_mib']:.0f} MiB"]
        for row in kept["memory"]["lists"]
    ]
    return table(["", "measured"], rows)


def tf_data() -> str:
    """Memory of an epoch through tf.data."""
    return table(
        ["faces of 48 x 48", "their pixels", "the process at most"],
        [
            [
                f"{row['faces']:,}",
                f"{row['pixels_mib']:.0f} MiB",
                f"{row['most_mib']:.0f} MiB",
            ]
            for row in read("bulk.json")["tf_data"]
        ],
    )


def kills() -> str:
    """What came of killing processes of a run of two."""
    measured = read("hosts.json")
    killed = measured["kills"]
    whose = [str(sum(x["process"] == i for x in killed)) for i in (0, 1)]
    seconds = [max(x["seconds"] for x in killed if x["process"] == i) for i in (0, 1)]
    return table(
        ["process", "killed", "all had ended after, at most"],
        [
            [f"{i}", whose[i], f"{seconds[i]:.1f} s"]
            for i in range(measured["processes"])
        ],
    )


def scale() -> str:
    """The arithmetic of measuring.scaling, by GPUs and network."""
    networks = {"8 x 400": 400e9, "100": 12.5e9, "25": 3.125e9}
    rows = []
    for gpus in (8, 16, 64, 256):
        steps = [estimate(gpus, x, _GRADIENTS) for x in networks.values()]
        rows.append(
            [
                str(gpus),
                f"{1e3 * steps[0].compute:.1f}",
                f"{1e3 * steps[0].statistics:.1f}",
                *(
                    f"{1e3 * x.gradients:.1f}, {percent(x.efficiency, 0)}"
                    for x in steps
                ),
                f"{gpus * steps[0].faces_per_second:,.0f}",
            ]
        )
    head = ["GPUs", "work", "statistics"]
    head += [f"gradients at {name} Gb/s a host" for name in networks]
    return table([*head, "faces/s at the first"], rows)


TABLES: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        *(shipped, views, others, corruptions, peers, fine_tuning),
        *(detectors, delivery, quality, explanations, realtime, start_up, to_torch),
        *(bulk, tf_data, kills, scale),
    )
}


if __name__ == "__main__":
    with errors.reported():
        sys.exit(main())
