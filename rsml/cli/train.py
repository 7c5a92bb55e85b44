"""Train an experiment, or go on where it stopped, and evaluate its best epoch."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from rsml.cli.options import RUNS_FOLDER, add, out_folder, whole

if TYPE_CHECKING:
    from rsml.config import Experiment
    from rsml.training.devices import Spread
    from rsml.utils.cluster import Cluster

LOG = "stdout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "A run lands in checkpoint/<name>/. The same command resumes it; --fresh starts it over."
    add(parser, "--set", "--name", "--fresh")
    add(parser, "--config", help="file, name in configs/, or a run's config.json (default: %(default)s)")
    parser.add_argument(
        "--labels-from",
        metavar="JOURNAL",
        help="corrected labels, as `rsml app` keeps them (RUN/app/journal.jsonl), in place of the data's own",
    )
    add(parser, "--out", **RUNS_FOLDER)
    parser.add_argument(
        "--devices",
        metavar="N",
        help='GPUs that share each batch, or "auto" for all of this machine (default: the config\'s, 1)',
    )
    parser.add_argument(
        "--hosts",
        metavar="A:PORT,B:PORT",
        help="train on several hosts, the first of which writes; the command runs on each (default: as TF_CONFIG or "
        "SLURM's srun say, else this host alone)",
    )
    parser.add_argument("--rank", type=whole(0, 65_535), metavar="N", help="place of this host in --hosts, from 0")
    parser.add_argument("--print-config", action="store_true", help="print the whole experiment and stop")


def run(options: argparse.Namespace) -> None:
    """Trains."""
    from rsml.config_files import read_experiment

    own = [f"name={options.name}"] if options.name else []
    own += [f"training.devices={options.devices}"] if options.devices else []
    own += [f"data.corrections={options.labels_from}"] if options.labels_from else []
    experiment, changed = read_experiment(options.config, [*options.set, *own])
    if options.print_config:
        print(experiment.text())
        return
    for line in changed:
        # A path need be no text.
        print("set " + line.encode("utf-8", "backslashreplace").decode())

    # What can be refused without TensorFlow is refused before its seconds.
    from rsml.data.options import check_source
    from rsml.run import Run

    out_folder(str(Run.of(experiment, options.out, options.fresh).folder))
    check_source(experiment.data)
    from rsml.utils.cluster import find_cluster
    from rsml.utils.quiet import start_tensorflow

    cluster = find_cluster(options.hosts, options.rank)
    if cluster is not None:
        _on_hosts(cluster, experiment, options)
        return
    start_tensorflow()
    from rsml.training.finish import report
    from rsml.training.loop import train

    print(report(train(experiment, root=options.out, fresh=options.fresh)))


def _on_hosts(cluster: Cluster, experiment: Experiment, options: argparse.Namespace) -> None:
    """Trains as one of several hosts; the first one reports."""
    from rsml.utils.cluster import code_fingerprint, fingerprint
    from rsml.utils.link import Link
    from rsml.utils.quiet import start_tensorflow

    link = Link(cluster)
    link.agree("the code", code_fingerprint(), "install the same versions of rsml, tensorflow, keras and numpy on both")
    link.agree("the config", fingerprint(experiment.text()), "start the same command on both, --rank apart")
    if not link.chief:
        logging.getLogger("rsml").setLevel(logging.WARNING)

    def join() -> Spread:
        from rsml.training.hosts import over_hosts

        return over_hosts(link, experiment)

    hosts = start_tensorflow(join)
    from rsml.training.finish import report
    from rsml.training.loop import train

    done = train(experiment, root=options.out, fresh=options.fresh, hosts=hosts)
    if link.chief:
        print(report(done))
    # Whoever went earlier would count as dead.
    link.exchange()
    link.close()
