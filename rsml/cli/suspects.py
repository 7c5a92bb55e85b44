"""Find labels of a data set that are probably wrong or missing, with models that never saw the images they judge."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsml.cli.options import add, out_folder, pixels, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = (
        "Each image is scored by a model that learned from the other folds: by default a logistic regression on "
        "features of a pretrained backbone, which takes a minute; with --config a whole training a fold."
    )
    parser.add_argument("source", metavar="SOURCE", help="labelled data: a folder or a CSV file")
    parser.add_argument("--folds", type=positive, default=5, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--backbone", default="efficientnetb0", help="name or file (default: %(default)s)")
    parser.add_argument(
        "--weights", metavar="FILE", help="imagenet or a weights file (default: imagenet, or the backbone file's own)"
    )
    parser.add_argument(
        "--image-size", type=pixels, default=160, metavar="N", help="side of the images (default: %(default)s)"
    )
    add(parser, "--config", default=None, help="train this experiment for each fold instead of using frozen features")
    add(parser, "--set", "--labels", "--task", "--seed")
    add(parser, "--out", type=out_folder, metavar="FOLDER", default="suspects", help="(default: %(default)s)")
    parser.add_argument("--most", type=positive, default=12, metavar="N", help="lines printed (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Scores, ranks, writes and prints."""
    from rsml.config_files import read_experiment
    from rsml.data.readers import read_samples
    from rsml.evaluation.suspects import find_suspects
    from rsml.tasks import task
    from rsml.utils.errors import UserError
    from rsml.utils.quiet import start_tensorflow
    from rsml.utils.text import counted

    if options.set and not options.config:
        raise UserError("--set: changes an experiment; name it with --config")
    samples = read_samples(options.source, labels=options.labels, task=options.task)
    experiment = read_experiment(options.config, options.set)[0] if options.config else None
    start_tensorflow()
    from rsml.training import out_of_fold as work

    folds = work.folds_of(samples, options.folds, options.seed)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if experiment is not None:
        scores = work.scores_of_training(experiment, samples, folds, out)
    else:
        weights = options.weights or (None if Path(options.backbone).suffix else "imagenet")
        features = work.frozen_features(samples, options.backbone, weights, options.image_size)
        scores = work.scores_of_features(features, samples, folds)
    found = find_suspects(samples.labels, scores, task(samples.task).one_class)
    work.write_suspects(found, samples, out)
    names = samples.label_names
    for one in found[: options.most]:
        verbs = (("wrong", one.given), ("missing", one.likely))
        parts = [f"{verb} {names[column]}" for verb, column in verbs if column is not None]
        print(f"{samples.paths[one.image]}: probably {', '.join(parts)} ({one.score:.2f})")
    many = f"{counted(len(found), 'suspect label')} among {counted(len(samples), 'image')}"
    print(f"{many}; {out}/suspects.csv, suspects.jpg")
    return 0
