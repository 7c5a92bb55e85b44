"""Train an experiment, or go on where it stopped, and evaluate its best epoch."""

import argparse

from rsml.cli.options import add, out_folder

LOG = "stdout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "A run lands in checkpoint/<name>/. The same command resumes it; --fresh starts it over."
    add(parser, "--config", "--set", "--name", "--fresh")
    add(
        parser,
        "--out",
        type=out_folder,
        metavar="FOLDER",
        default="checkpoint",
        help="folder of all runs (default: %(default)s)",
    )
    parser.add_argument("--print-config", action="store_true", help="print the whole experiment and stop")


def run(options: argparse.Namespace) -> None:
    """Trains."""
    from rsml.config import read_experiment

    named = [f"name={options.name}"] if options.name else []
    experiment, changed = read_experiment(options.config, [*options.set, *named])
    if options.print_config:
        print(experiment.text())
        return
    for line in changed:
        print(f"set {line}")

    # What can be refused without TensorFlow is refused before its seconds.
    from rsml.data.options import check_source
    from rsml.run import Run

    out_folder(str(Run.of(experiment, options.out, options.fresh).folder))
    check_source(experiment.data)
    from rsml.utils.quiet import start_tensorflow

    start_tensorflow()
    from rsml.training.finish import report
    from rsml.training.loop import train

    print(report(train(experiment, root=options.out, fresh=options.fresh)))
