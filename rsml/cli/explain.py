"""Show where in images a model's scores come from: class maps as pictures, arrays and GeoTIFF."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsml.cli.options import add, out_folder, positive

METHODS = ("grad-cam", "grad-cam++", "layercam")
SIGNA_IMAGES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = (
        "Without images those of the run's test part with the most wrong and missed labels are shown. Of a SIGNA model "
        "its channel weights are drawn too, and what each label and edge of its graph does to every score."
    )
    parser.add_argument(
        "inputs", nargs="*", metavar="RUN_OR_CHECKPOINT | IMAGE", help="as for `rsml predict`: a model, then images"
    )
    parser.add_argument("--beside", metavar="RUN", help="another run with the same labels, shown below the first")
    parser.add_argument(
        "--label", action="extend", nargs="+", metavar="NAME", help="what is drawn (default: wrong, missed, named ones)"
    )
    parser.add_argument(
        "--method", choices=METHODS, default=METHODS[0], help="how channels are weighed (default: %(default)s)"
    )
    parser.add_argument(
        "--after", metavar="LAYER", help="layer or stage (stage1 to stage4) (default: the deepest map of 7 x 7 or more)"
    )
    parser.add_argument(
        "--most", type=positive, default=24, metavar="N", help="images, the worst first (default: %(default)s)"
    )
    add(
        parser,
        "--root",
        "--out",
        type=out_folder,
        metavar="FOLDER",
        help="where everything goes (default: explain/ in the run folder)",
    )
    add(parser, "--batch-size", "--trust")


def run(options: argparse.Namespace) -> int:
    """Finds model and images, and draws."""
    from rsml.prediction.find_model import check_images, find_model, split_inputs
    from rsml.utils.quiet import start_tensorflow
    from rsml.utils.text import counted

    source, images = split_inputs(options.inputs)
    check_images(images)
    file, of = find_model(source)
    if options.beside:
        find_model(options.beside)
    start_tensorflow()
    from rsml.data.find_images import find_images
    from rsml.explain.explaining import Explainer, Targets, explain, explain_signa
    from rsml.prediction.scene_model import open_model
    from rsml.utils.errors import UserError

    model, of = open_model(source, options.trust)
    explainers = [Explainer.of(of.name if of else file.stem, model, options.after, options.method)]
    if options.beside:
        beside, other = open_model(options.beside, options.trust)
        name = other.name if other else Path(options.beside).stem
        explainers.append(Explainer.of(name, beside, options.after, options.method))
    if images:
        targets = Targets.of_files(list(find_images(images)), len(model.labels), of)
    elif of is not None:
        targets = Targets.of_part(of, options.root)
    else:
        raise UserError(f"{file}: a checkpoint file alone knows no data; name the images to explain")
    out = Path(options.out or (of.folder / "explain" if of else f"{file.stem}-explained"))
    size = " x ".join(map(str, explainers[0].maps.size))
    print(f"{options.method} after {explainers[0].maps.after} ({size})")
    chosen = {"labels": options.label, "most": options.most, "batch_size": options.batch_size}
    rows = explain(explainers, targets, out, **chosen)
    verdicts = [row["verdict"] for row in rows if row["model"] == explainers[0].name]
    shown = len(verdicts) // len(model.labels)
    known = f": {verdicts.count('wrong')} wrong, {verdicts.count('missed')} missed" if any(verdicts) else ""
    print(f"{counted(shown, 'image')} in {out}/{known}")
    for name in explain_signa(model, targets.files[:SIGNA_IMAGES], out):
        print(f"SIGNA: {out / name}")
    return 0
