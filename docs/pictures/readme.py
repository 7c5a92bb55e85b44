"""Draw the README's three pictures from drawn scenes: class maps, the report, a map. `make pictures` runs it.

Trains two small networks (some minutes on a laptop); the report's picture needs chromium.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import rsml
from rsml.config import Augment, Data, Experiment, Training
from rsml.data.options import Scenes
from rsml.explain.class_maps import ClassMaps
from rsml.explain.pictures import overlay
from rsml.figures.style import label_colours
from rsml.prediction.scene_model import SceneModel
from rsml.report.page import write_page
from rsml.scenes.drawing import draw

HERE, SIZE, MOST = Path(__file__).parent, 128, 300_000
ROW = ("buildings", "cars", "pavement", "trees")


def train(kind: str, root: str) -> rsml.Run:
    """The run of plain or SIGNA, trained where it is not yet."""
    return rsml.train(
        Experiment(
            name=f"{kind}-{SIZE}",
            data=Data(
                source="scenes", image_size=SIZE, scenes=Scenes(count=1050, size=SIZE), fractions=(60, 20, 20)
            ),
            methods=() if kind == "plain" else kind,
            augment=Augment(brightness=(0.8, 1.2)),
            training=Training(epochs=10, batch_size=32, learning_rate=2e-3, warmup_epochs=1),
        ),
        root=root,
    )  # fmt: skip


def class_map_row(runs: list[rsml.Run], file: Path) -> None:
    """SIGNA above plain: an image and the maps of four labels."""
    scene = draw(11, seed=7, size=SIZE, scene="denseresidential").image
    tiles = []
    for run in runs:
        maps = ClassMaps(run.model())(scene[None], ROW)[0]
        tiles.append([scene, *(overlay(scene, found) for found in maps)])
    gap, side, top = 6, 150, 22
    sheet = Image.new("RGB", ((side + gap) * 5 - gap, (side + gap) * len(runs) - gap + top), "white")
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(("SIGNA, plain below", *ROW)):
        pen.text(((side + gap) * column, 3), name, "#1d232a", ImageFont.load_default(13))
    for row, line in enumerate(tiles):
        for column, tile in enumerate(line):
            sheet.paste(
                Image.fromarray(tile).resize((side, side), Image.LANCZOS),
                ((side + gap) * column, (side + gap) * row + top),
            )
    sheet.save(file, quality=82, optimize=True)


def report_picture(run: rsml.Run, others: list[rsml.Run], file: Path) -> None:
    """The first screen of the page in chromium."""
    from playwright.sync_api import sync_playwright

    page_file = write_page([run.folder, *(other.folder for other in others)]).resolve()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as session:
        browser = session.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.goto(page_file.as_uri())
        page.locator("#labels").scroll_into_view_if_needed()
        page.evaluate("window.scrollTo(0, document.querySelector('#worst').offsetTop - 70)")
        page.screenshot(path=file.with_suffix(".png"))
        browser.close()
    picture = Image.open(file.with_suffix(".png")).convert("RGB").resize((774, 484), Image.LANCZOS)
    picture.save(file, quality=84, optimize=True)
    file.with_suffix(".png").unlink()


def mapped_scene(run: rsml.Run, file: Path) -> None:
    """A mosaic of drawn scenes, and each window's strongest label in the colours of land-cover maps."""
    kinds = ("forest", "river", "denseresidential", "agricultural", "beach", "parkinglot", "golfcourse", "freeway")
    rows = [
        [draw(place * 8 + k, seed=3, size=SIZE, scene=kinds[(place + k) % 8]).image for k in range(4)]
        for place in range(3)
    ]
    mosaic = np.concatenate([np.concatenate(line, axis=1) for line in rows])
    model = SceneModel.load(run.files.best)
    step = SIZE // 4
    starts = [range(0, side - SIZE + 1, step) for side in mosaic.shape[:2]]
    windows = np.stack([mosaic[y : y + SIZE, x : x + SIZE] for y in starts[0] for x in starts[1]])
    scores = model.model.predict(windows.astype("float32"), verbose=0, batch_size=16)
    votes = np.zeros((*mosaic.shape[:2], len(model.labels)), np.float32)
    for (y, x), row in zip(((y, x) for y in starts[0] for x in starts[1]), scores, strict=True):
        votes[y + step : y + SIZE - step, x + step : x + SIZE - step] += row
    shown = [
        model.labels.index(name)
        for name in ("trees", "water", "sand", "buildings", "field", "pavement", "grass", "sea")
    ]
    colours = np.array(label_colours([model.labels[k] for k in shown]), np.float32) * 255
    # What is there more than usual: the frequent labels would cover the whole map.
    best = (votes[..., shown] / votes[..., shown].mean((0, 1))).argmax(-1)
    painted = (0.55 * colours[best] + 0.45 * mosaic.mean(-1, keepdims=True)).astype(np.uint8)
    painted[votes.sum(-1) == 0] = 255
    both = np.concatenate([mosaic, np.full((len(mosaic), 12, 3), 255, np.uint8), painted], axis=1)
    picture = Image.fromarray(both)
    picture.resize((774, round(774 * picture.height / picture.width)), Image.LANCZOS).save(
        file, quality=82, optimize=True
    )


def main() -> None:
    """Draws all three."""
    root = sys.argv[1] if len(sys.argv) > 1 else "build/pictures"
    runs = [train(kind, root) for kind in ("signa", "plain")]
    files = [HERE / name for name in ("class-maps.jpg", "report.jpg", "mapped.jpg")]
    class_map_row(runs, files[0])
    report_picture(runs[0], runs[1:], files[1])
    mapped_scene(runs[1], files[2])
    total = sum(file.stat().st_size for file in files)
    print(", ".join(f"{file.name} {file.stat().st_size / 1000:.0f} kB" for file in files))
    if total > MOST:
        raise SystemExit(f"the three pictures have {total} bytes together, more than {MOST}")


if __name__ == "__main__":
    main()
