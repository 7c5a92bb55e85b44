"""Train an experiment: python train.py --config configs/scenes.py"""

import argparse
import sys


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Train an experiment, or go on where it stopped, and evaluate its best epoch.",
        epilog="A run lands in checkpoint/<name>/. The same command resumes it; --fresh starts it over.",
    )
    parser.add_argument("--config", default="configs/scenes.py", help="experiment file (default: %(default)s)")
    parser.add_argument(
        "--arg",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="argument of a config that takes some",
    )
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override one value, e.g. training.epochs=5",
    )
    parser.add_argument("--name", help="name of the run folder (default: the config's)")
    parser.add_argument("--fresh", action="store_true", help="start the run over")
    parser.add_argument("--print-config", action="store_true", help="print the whole experiment and stop")
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the command line."""
    options = parse()
    from rsml.cli.faults import run

    return run(lambda: _train(options))


def _train(options: argparse.Namespace) -> int:
    from rsml.config import load_config, override

    settings = options.set + ([f"name={options.name}"] if options.name else [])
    experiment, said = override(load_config(options.config, options.arg), settings)
    if options.print_config:
        print(experiment.text())
        return 0
    for line in said:
        print(f"set {line}")

    from rsml.training.finish import report
    from rsml.training.loop import train

    run = train(experiment, fresh=options.fresh)
    print(report(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
