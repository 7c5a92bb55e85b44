"""Scenes of land and water: fields, beach, chaparral, forest, river and golf course."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from rsml.scenes.canvas import Canvas
from rsml.scenes.ground import tree_line
from rsml.scenes.materials import (
    FIELD,
    FIXTURE,
    GRASS,
    MARSH,
    PAVEMENT,
    SAND,
    SEA,
    SHRUB,
    SOIL,
    WATER,
    Colour,
    mix,
    shade,
    vary,
)
from rsml.scenes.structures import house
from rsml.scenes.vehicles import WHITE, car, ship

# A cosine as a table: numpy's own may differ in the last digit from one processor to another.
_COSINE = np.array([math.cos(2 * math.pi * k / 256) for k in range(256)], np.float32)


def wave(phase: np.ndarray) -> np.ndarray:
    """Returns cos(2 pi phase), `(work, work)` float32."""
    return _COSINE[(phase * np.float32(256)).astype(np.int32) & 255]


def blend(first: Colour, second: Colour, share: np.ndarray) -> Image.Image:
    """Returns an RGB image between two colours, `share` (0..1) of the way to the second at every pixel."""
    share = np.clip(share, 0, 1)
    bands = [
        Image.fromarray((a + share * np.float32(b - a)).astype(np.uint8)) for a, b in zip(first, second, strict=True)
    ]
    return Image.merge("RGB", bands)


def ripples(canvas: Canvas, material: int, strength: float, angle: float, length: float = 4.0) -> None:
    """Lays waves whose crests run along `angle`, with a little glint, over water."""
    waves = canvas.streaks(angle, length * 4, length, 3) * np.float32(0.6)
    waves += canvas.streaks(angle + 0.5, length * 1.6, length * 0.45, 4) * np.float32(0.4)
    canvas.pattern(material, np.float32(strength) * waves)


def lawn(canvas: Canvas, material: int = GRASS, bare: float = 0.0) -> None:
    """Covers everything with grass, with worn patches of soil over about a share `bare`."""
    canvas.fill(material, canvas.palette.grass)
    if bare > 0:
        worn = canvas.noise(22, 5) + canvas.noise(5, 6) * np.float32(0.5)
        canvas.paint(worn > np.float32(1.9 - 2.6 * bare), SOIL, canvas.palette.soil)


def agricultural(canvas: Canvas) -> None:
    """A field with furrows, sometimes a second one, a track or a row of trees at its edge."""
    rng, palette = canvas.rng, canvas.palette
    x, y = canvas.coordinates()
    crops = (
        (92, 122, 62),
        (122, 140, 84),
        (78, 108, 82),
        (168, 160, 104),
        (196, 170, 92),
        (120, 112, 100),
        (86, 120, 104),
    )
    soil = shade(mix(vary(rng, palette.soil, 0.1), (120, 112, 104), rng.uniform(0, 0.8)), rng.choice((0.75, 1.0, 1.2)))

    def field(offset: np.ndarray, mask: np.ndarray | None, turned: bool) -> None:
        crop = vary(rng, rng.choice(crops), 0.15, 0.06)
        across = (x if turned else y) + canvas.noise(30, 3) * np.float32(rng.choice((0, 0, 0.5)))
        period = rng.choice((1.8, 2.2, 2.8, 3.6, 4.6)) * rng.uniform(0.9, 1.15)
        cover = rng.uniform(0.3, 0.7)
        rows = wave(across * np.float32(1 / period)) * np.float32(rng.uniform(0.7, 1.5)) + np.float32(cover * 2 - 1)
        # The crop stands thin in places.
        rows += canvas.noise(14, 4) * np.float32(rng.uniform(0.05, 0.2)) + canvas.noise(1.6, 6) * np.float32(0.15)
        picture = blend(soil, crop, rows * np.float32(0.5) + np.float32(0.5))
        canvas.paint(np.ones_like(rows, bool) if mask is None else mask, FIELD, picture)
        if rng.random() < 0.6:
            # Wheel tracks: two narrow lines every few metres.
            every, shift = rng.uniform(9, 22), rng.uniform(0, 20)
            place = np.mod(across + np.float32(500 + shift), np.float32(every))
            tracks = (np.abs(np.abs(place - np.float32(3)) - np.float32(0.95)) < np.float32(0.35)).astype(np.float32)
            if mask is not None:
                tracks *= mask
            canvas.pattern(FIELD, np.float32(rng.uniform(-0.22, 0.18)) * tracks)

    field(y, None, False)
    edge = rng.uniform(-0.2, 0.42) * canvas.extent
    kind = rng.random()
    if kind < 0.45:
        field(x, y > np.float32(edge), rng.random() < 0.5)
    if kind < 0.25 or 0.45 < kind < 0.6:
        width = rng.uniform(4, 7)
        colour = vary(rng, palette.soil, 0.1)
        canvas.band(((-canvas.reach, edge), (canvas.reach, edge)), width, SOIL, shade(colour, 1.08))
        for side in (-1, 1):
            track = ((-canvas.reach, edge + side * 1.1), (canvas.reach, edge + side * 1.1))
            canvas.band(track, 0.6, SOIL, shade(colour, 0.9))
        if rng.random() < 0.3:
            car(canvas, rng.uniform(-0.3, 0.3) * canvas.extent, edge, 0)
    if 0.1 < kind < 0.3 or kind > 0.85:
        row = edge + 6
        canvas.band(((-canvas.reach, row), (canvas.reach, row)), 6, GRASS, palette.grass)
        tree_line(canvas, (-canvas.reach, row), (canvas.reach, row), rng.uniform(4, 9), (2, 4))


def beach(canvas: Canvas) -> None:
    """Sand and sea with surf between, sometimes dunes with trees, a path or sunshades."""
    rng, palette = canvas.rng, canvas.palette
    x, y = canvas.coordinates()
    bend = rng.uniform(-0.006, 0.006)
    shore = rng.uniform(-0.16, 0.16) * canvas.extent
    out = y - np.float32(shore) + np.float32(bend) * x * x + canvas.noise(34, 3) * np.float32(2.6) + canvas.noise(9, 4)
    near = vary(rng, rng.choice(((104, 150, 138), (128, 140, 124), (110, 132, 136), (92, 164, 152))), 0.12, 0.04)
    deep = vary(rng, rng.choice(((30, 74, 92), (44, 84, 92), (34, 66, 78), (40, 112, 112))), 0.15, 0.05)
    sand = palette.sand
    canvas.fill(SAND, sand)
    wet = mix(shade(sand, rng.uniform(0.6, 0.74)), (130, 112, 100), 0.3)
    canvas.paint(out > -rng.uniform(4, 12), SAND, mix(sand, wet, 0.55))
    canvas.paint(out > -rng.uniform(1.5, 4), SAND, wet)
    canvas.paint(out > 0, SEA, blend(near, deep, out * np.float32(1 / rng.uniform(25, 70))))
    ripples(canvas, SEA, rng.uniform(0.02, 0.09), 0, rng.uniform(3, 7))
    # Surf: torn bands of foam that thin out to seawards.
    foam = shade(WHITE, 1.03)
    lace = (
        canvas.streaks(0, 6, 3, 5) * np.float32(0.8)
        + canvas.noise(3, 6) * np.float32(0.6)
        + canvas.noise(0.9, 7) * np.float32(0.5)
    )
    front = rng.uniform(1, 2.5)
    for _ in range(rng.choice((1, 2, 2, 3, 4))):
        width = rng.uniform(1.5, 7)
        closeness = np.float32(1.5) - np.abs(out - np.float32(front)) * np.float32(2.2 / width)
        closeness -= np.maximum(out - np.float32(front), 0) * np.float32(0.25 / width)
        thick = lace * np.float32(0.75) < closeness
        canvas.paint(
            (lace * np.float32(0.75) < closeness + np.float32(0.45)) & (out > np.float32(-0.8)),
            SEA,
            mix(foam, near, 0.45),
        )
        canvas.paint(thick & (out > np.float32(-0.8)), SEA, foam)
        front += width + rng.uniform(3, 12)
    inland = shore - rng.uniform(14, 30)
    kind = rng.random()
    if kind < 0.4:
        canvas.paint(out < np.float32(inland - shore - 4), GRASS, mix(palette.grass, sand, 0.3))
        dunes = 0.5 if kind < 0.25 else 0.0
        canvas.grow(5.0, (1.5, 3.6), lambda px, py: dunes if py < inland - 8 - bend * px * px else 0.0)
    elif kind < 0.55:
        path = ((-canvas.reach, inland - 4), (canvas.reach, inland - 4))
        canvas.band(path, rng.uniform(4, 7), PAVEMENT, palette.concrete)
    if rng.random() < 0.35:
        for _ in range(rng.randint(3, 14)):
            px, py = rng.uniform(-0.5, 0.5) * canvas.extent, shore - rng.uniform(5, 14)
            colour = rng.choice(((190, 60, 54), (58, 92, 170), (232, 208, 92), WHITE, (70, 150, 100)))
            canvas.circle(px, py, rng.uniform(0.9, 1.4), FIXTURE, colour, 2.0)


def chaparral(canvas: Canvas) -> None:
    """Dry soil with scattered low shrubs, thinner and denser in patches, sometimes a track."""
    rng, palette = canvas.rng, canvas.palette
    soil = vary(rng, palette.soil, 0.1)
    canvas.fill(SOIL, soil)
    canvas.paint(canvas.noise(9, 3) + canvas.noise(2.5, 4) > np.float32(1.1), SOIL, shade(soil, 1.1))
    if rng.random() < 0.25:
        canvas.paint(canvas.noise(12, 6) > np.float32(0.9), GRASS, mix(palette.grass, (160, 148, 108), 0.7))
    density = rng.uniform(0.5, 1.0)
    spacing = rng.uniform(2.5, 3.8)
    track = rng.uniform(-0.3, 0.3) * canvas.extent if rng.random() < 0.25 else 1e9
    low, high, phase = rng.uniform(0.05, 0.12), rng.uniform(0.1, 0.2), rng.uniform(0, 6)

    def where(px: float, py: float) -> float:
        if abs(py - track) < 2:
            return 0.0
        return density * (0.75 + 0.45 * math.sin(px * low + phase) * math.cos(py * high + phase))

    if track < 1e9:
        canvas.band(((-canvas.reach, track), (canvas.reach, track)), 3.4, SOIL, shade(soil, 1.15))
    big = rng.uniform(0.36, 0.66) * spacing
    dark = (palette.shrub, shade(palette.shrub, 0.8), mix(palette.shrub, soil, 0.25))
    canvas.grow(spacing, (0.5, big), where, SHRUB, dark, 1.0)


def forest(canvas: Canvas) -> None:
    """A closed canopy of crowns, sometimes with a clearing, a track or a lone house."""
    rng, palette = canvas.rng, canvas.palette
    floor = mix(palette.trees[0], (52, 48, 40), 0.5)
    # Between the crowns one sees the dark floor: no grass that a person would name.
    canvas.fill(FIXTURE, floor)
    mean = rng.uniform(2.6, 4.4)
    conifers = rng.random() < 0.3
    colours = palette.trees if not conifers else [shade(c, 0.8) for c in palette.trees[:2]] + [(48, 66, 56)]
    kind = rng.random()
    clearing = (1e9, 0.0, 1.0)
    if kind < 0.2:
        clearing = (rng.uniform(-0.3, 0.3) * canvas.extent, rng.uniform(-0.3, 0.3) * canvas.extent, rng.uniform(9, 17))
        outline = canvas.blob(clearing[0], clearing[1], 2.4 * clearing[2], 2.4 * clearing[2], 0)
        canvas.polygon(outline, GRASS, mix(palette.grass, palette.trees[1], 0.3))
    track = rng.uniform(-0.3, 0.3) * canvas.extent if 0.2 < kind < 0.35 else 1e9
    if track < 1e9:
        canvas.band(((-canvas.reach, track), (canvas.reach, track)), 6, SOIL, shade(palette.soil, 0.85))

    def where(px: float, py: float) -> float:
        if abs(py - track) < mean + 1.2 or math.hypot(px - clearing[0], py - clearing[1]) < clearing[2]:
            return 0.0
        return 0.97

    if conifers:
        mean *= 0.8
    canvas.grow(mean * 1.35, (mean * 0.62, mean * 1.3), where, colours=colours, jitter=1.1)
    canvas.grow(mean * 2.6, (mean * 0.9, mean * 1.5), where, colours=colours, jitter=1.2)


def river(canvas: Canvas) -> None:
    """A winding river between trees, grass, sand bars and bare banks, sometimes with a bridge or a boat."""
    rng, palette = canvas.rng, canvas.palette
    x, y = canvas.coordinates()
    swing, bend, phase = rng.uniform(2, 14), rng.uniform(0.03, 0.075), rng.uniform(0, 6.28)
    half = rng.uniform(6, 17)
    middle = np.float32(swing) * wave(
        (x * np.float32(bend) + np.float32(phase)) * np.float32(1 / (2 * math.pi)) + np.float32(64)
    )
    distance = np.abs(y - middle + canvas.noise(26, 3) * np.float32(1.6)) - np.float32(half)
    distance += canvas.noise(7, 4) * np.float32(0.7)
    marsh = rng.random() < 0.15
    lawn(canvas, MARSH if marsh else GRASS, rng.choice((0, 0, 0.4)))
    bank = rng.random()
    # A bar lies on the inner side of each bend, where the water is slow.
    inner = (y - middle) * middle * np.float32(1 / swing)
    if bank < 0.4:
        colour = mix(palette.sand, palette.soil, rng.uniform(0, 0.35))
        canvas.paint((distance < np.float32(rng.uniform(3, 8))) & (inner < 0), SAND, colour)
        canvas.paint(distance < np.float32(rng.uniform(0.5, 2.5)), SAND, shade(colour, 0.92))
    elif bank < 0.75:
        canvas.paint(distance < np.float32(rng.uniform(2, 5)), SOIL, shade(palette.soil, 0.9))
    water = palette.water
    shallow = mix(water, palette.soil, 0.35)
    canvas.paint(distance < 0, WATER, blend(shallow, water, distance * np.float32(-0.22)))
    ripples(canvas, WATER, rng.uniform(0.02, 0.07), 0.0, rng.uniform(2, 5))
    wood, gap = (0.02 if marsh else rng.choice((0.95, 0.8, 0.5, 0.12))), rng.uniform(0.5, 6)
    if bank < 0.75:
        gap += 3
    side = rng.choice((-1, 0, 0, 1))

    def where(px: float, py: float) -> float:
        offset = py - swing * math.cos(px * bend + phase)
        if abs(offset) < half + gap:
            return 0.0
        return wood if side == 0 or offset * side > 0 else 0.12 * wood

    canvas.grow(4.8, (1.8, 4.2), where)
    if rng.random() < 0.14:
        where_x = rng.uniform(-0.2, 0.2) * canvas.extent
        road = ((where_x, -canvas.reach), (where_x + rng.uniform(-9, 9), canvas.reach))
        canvas.band(road, 9, PAVEMENT, palette.concrete, 5.0)
        canvas.band(road, 7.6, PAVEMENT, palette.asphalt)
        if rng.random() < 0.7:
            car(canvas, where_x + 2, rng.uniform(-20, 20), math.pi / 2)
    elif rng.random() < 0.12:
        px = rng.uniform(-0.25, 0.25) * canvas.extent
        ship(canvas, px, swing * math.cos(px * bend + phase), rng.uniform(7, 11), rng.uniform(-0.4, 0.4))


def golfcourse(canvas: Canvas) -> None:
    """Fairways, greens and bunkers in rough grass with groups of trees, sometimes a pond and a cart path."""
    rng, palette = canvas.rng, canvas.palette
    lawn(canvas, GRASS, rng.choice((0, 0, 0, 0.45)))
    reach = canvas.reach
    green = mix(palette.grass, (104, 150, 84), 0.8)
    fairway = shade(mix(palette.grass, green, rng.uniform(0.4, 1.0)), rng.uniform(1.05, 1.25))
    swing, phase, width = rng.uniform(2, 9), rng.uniform(0, 6.28), rng.uniform(20, 34)
    course = [(u * 6.0, swing * math.sin(u * 0.25 + phase)) for u in range(-int(reach / 6) - 1, int(reach / 6) + 2)]
    canvas.band(course, width, GRASS, fairway)
    x, y = canvas.coordinates()
    if rng.random() < 0.65:
        # Mowing leaves bright and dark stripes.
        angle, period = rng.uniform(0, 3.14), rng.uniform(4, 8)
        phase_of = (x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))) * np.float32(1 / period)
        middle = np.float32(swing) * np.float32(0.9)
        inside = np.abs(y) < np.float32(width / 2) - middle
        canvas.pattern(GRASS, np.float32(rng.uniform(0.03, 0.07)) * np.sign(wave(phase_of)) * inside)
    gx, gy = rng.uniform(-0.25, 0.25) * canvas.extent, rng.uniform(-8, 8)
    size = rng.uniform(15, 26)
    if rng.random() < 0.85:
        outline = canvas.blob(gx, gy, size * 1.45, size * 1.2, rng.uniform(0, 3), 0.2)
        canvas.polygon(outline, GRASS, shade(fairway, 0.93))
        canvas.polygon(canvas.blob(gx, gy, size * 1.1, size * 0.85, rng.uniform(0, 3), 0.2), GRASS, shade(green, 1.25))
    if rng.random() < 0.22:
        px, py = rng.uniform(-0.35, 0.35) * canvas.extent, rng.choice((-1, 1)) * rng.uniform(0.22, 0.4) * canvas.extent
        outline = canvas.blob(px, py, rng.uniform(24, 44), rng.uniform(16, 26), rng.uniform(0, 3))
        canvas.polygon(outline, WATER, palette.water)
        ripples(canvas, WATER, 0.04, 0.0)
    bunkers = []
    sand = mix(palette.sand, WHITE, rng.uniform(0, 0.4))
    if rng.random() < 0.85:
        for _ in range(rng.randint(1, 6)):
            turn, far = rng.uniform(0, 6.28), size * rng.uniform(0.75, 1.0)
            bx, by = gx + far * math.cos(turn) * 1.2, gy + far * math.sin(turn)
            bunkers.append((bx, by))
            long, wide, turn = rng.uniform(7, 15), rng.uniform(5, 8), rng.uniform(0, 3)
            outline = canvas.blob(bx, by, long, wide, turn, 0.45)
            centre = [(bx + (px - bx) * 1.16, by + (py - by) * 1.16) for px, py in outline]
            canvas.polygon(centre, GRASS, shade(fairway, 0.82))
            canvas.polygon(outline, SAND, sand)
    if rng.random() < 0.55:
        side = rng.choice((-1, 1))
        path = [(px, py + side * (width / 2 + 4)) for px, py in course]
        canvas.band(path, 2.6, PAVEMENT, shade(palette.concrete, 0.97))
        if rng.random() < 0.3:
            px, py = path[len(path) // 2]
            car(canvas, px, py, 0.2)
    wooded = rng.choice((0.0, 0.25, 0.5, 0.8))
    low, other = rng.uniform(0.05, 0.1), rng.uniform(0, 6)

    def where(px: float, py: float) -> float:
        if abs(py - swing * math.sin(px / 24 + phase)) < width / 2 + 5 or math.hypot(px - gx, py - gy) < size * 0.9:
            return 0.0
        return wooded if math.sin(px * low + other) + math.sin(py * low * 1.3) > -0.2 else 0.0

    if wooded:
        canvas.grow(6.0, (2.2, 4.6), where)


def sparseresidential(canvas: Canvas) -> None:
    """One or two houses with a drive in a large plot of lawn, wood, bare soil or chaparral."""
    rng, palette = canvas.rng, canvas.palette
    kind = rng.choice(("lawn", "lawn", "wood", "wood", "desert"))
    if kind == "desert":
        canvas.fill(SOIL, palette.soil)
        canvas.paint(canvas.noise(10, 3) > np.float32(1), SOIL, shade(palette.soil, 1.1))
    else:
        lawn(canvas, GRASS, rng.choice((0, 0.3, 0.5)))
    homes = [(rng.uniform(-9, 9), rng.uniform(-9, 9))]
    if rng.random() < 0.4:
        turn = rng.uniform(0, 6.28)
        homes.append((homes[0][0] + 30 * math.cos(turn), homes[0][1] + 30 * math.sin(turn)))
    for number, (px, py) in enumerate(homes):
        angle = rng.uniform(0, math.pi)
        cos, sin = math.cos(angle), math.sin(angle)
        if rng.random() < 0.75:
            surface = rng.random()
            material, colour = (PAVEMENT, palette.concrete) if surface < 0.7 else (SOIL, shade(palette.soil, 1.1))
            ends = canvas.reach * rng.choice((-1, 1))
            drive = [
                (px - sin * 4, py + cos * 4),
                (px - sin * 14, py + cos * 14),
                (px - sin * 16 + ends * 0.35, py + cos * 22),
            ]
            drive.append((px - sin * 16 + ends, py + cos * 26))
            canvas.band(drive, rng.uniform(3.2, 5), material, colour)
            canvas.rectangle(px - sin * 10, py + cos * 10, 10, 8, angle, material, colour)
            for k in range(rng.choice((0, 0, 1, 2, 3))):
                car(canvas, px - sin * 10 + (k - 1) * 3 * cos, py + cos * 10 + (k - 1) * 3 * sin, angle + math.pi / 2)
        house(canvas, px, py, rng.uniform(14, 24), rng.uniform(10, 14), angle)
        if number == 0 and rng.random() < 0.5:
            house(canvas, px + cos * 17, py + sin * 17, rng.uniform(7, 10), 6, angle + rng.choice((0, math.pi / 2)))
    clear = rng.uniform(13, 18)

    def where(px: float, py: float) -> float:
        nearest = min(math.hypot(px - hx, py - hy) for hx, hy in homes)
        if nearest < clear:
            return 0.06 if nearest > 11 else 0.0
        return cover * (0.6 + 0.5 * math.sin(px * 0.11 + 1) * math.sin(py * 0.09 + 2))

    if kind == "desert":
        cover = rng.uniform(0.2, 0.7)
        canvas.grow(4.0, (0.6, 1.8), where, SHRUB, (palette.shrub, shade(palette.shrub, 0.8)), 1.0)
    else:
        cover = rng.uniform(1.0, 1.6) if kind == "wood" else rng.choice((0, 0.12, 0.3))
        canvas.grow(5.2, (1.8, 4.2), where)
