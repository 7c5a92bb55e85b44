"""Scenes of transport and industry beside the road: airfield, harbour and tanks."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from rsml.scenes.canvas import Canvas
from rsml.scenes.ground import YELLOW, stalls, traffic
from rsml.scenes.materials import BUILDING, FIXTURE, GRASS, PAVEMENT, SAND, SOIL, WATER, Colour, mix, shade, vary
from rsml.scenes.nature import lawn, ripples, wave
from rsml.scenes.structures import block, gabled, pier, tank
from rsml.scenes.vehicles import WHITE, car, ship
from rsml.scenes.vehicles import airplane as jet


def slabs(canvas: Canvas, size: float, strength: float = 0.1) -> None:
    """Lays the joints of concrete slabs, and slabs of slightly different age, over the pavement."""
    x, y = canvas.coordinates()
    joint = np.float32(max(0.35, canvas.extent / canvas.work) / size / 2)
    lines = np.zeros_like(x)
    for axis in (x, y):
        place = np.mod(axis * np.float32(1 / size) + np.float32(100), np.float32(1))
        lines += (place < joint) | (place > 1 - joint)
    canvas.pattern(PAVEMENT, np.float32(-strength) * lines)
    column = (x * np.float32(1 / size) + np.float32(200)).astype(np.int32)
    row = (y * np.float32(1 / size) + np.float32(200)).astype(np.int32)
    age = ((column * 73 + row * 151 + column * row * 29) % 17).astype(np.float32) - np.float32(8)
    canvas.pattern(PAVEMENT, age * np.float32(0.006))


def airplane(canvas: Canvas) -> None:
    """Aeroplanes on an apron, in a row, at gates, or one on a taxiway between strips of grass."""
    rng, palette = canvas.rng, canvas.palette
    ground = mix(palette.concrete, palette.asphalt, rng.choice((0.0, 0.2, 0.9)))
    kind = rng.choice(("row", "row", "gates", "taxiway", "small"))
    canvas.fill(PAVEMENT, ground)
    slabs(canvas, rng.uniform(5, 8), rng.uniform(0.04, 0.14))
    stains = canvas.noise(9, 6)
    canvas.pattern(PAVEMENT, np.float32(-0.1) * np.clip(stains - 1, 0, 1))
    if kind == "taxiway":
        half = rng.uniform(11, 15)
        for side in (-1, 1):
            canvas.rectangle(0, side * (half + 50), 4 * canvas.reach, 100, 0, GRASS, palette.grass)
        canvas.band(((-canvas.reach, 0), (canvas.reach, 0)), 0.5, PAVEMENT, YELLOW)
        length = rng.uniform(28, 40)
        jet(canvas, rng.uniform(-9, 9), 0, length, rng.choice((0, math.pi)))
        return
    if kind == "small":
        pitch, angle = rng.uniform(13, 16), rng.choice((-1, 1)) * math.pi / 2 + rng.uniform(-0.3, 0.3)
        verge_y = rng.uniform(0.25, 0.42) * canvas.extent
        if rng.random() < 0.5:
            canvas.rectangle(0, verge_y + 50, 4 * canvas.reach, 100, 0, GRASS, palette.grass)
        rows = rng.choice((1, 2))
        for row in range(rows):
            y = (row - (rows - 1) / 2) * 24 - 5
            canvas.band(((-canvas.reach, y - 7), (canvas.reach, y - 7)), 0.4, PAVEMENT, YELLOW)
            for k in range(-4, 5):
                if rng.random() < 0.6 or (row == 0 and k == 0):
                    jet(canvas, k * pitch + rng.uniform(-1, 1), y, rng.uniform(9, 13), angle + rng.uniform(-0.08, 0.08))
    else:
        length = rng.uniform(26, 44)
        pitch = length * rng.uniform(1.02, 1.2)
        shift = rng.uniform(-0.5, 0.5) * pitch if rng.random() < 0.5 else 0.0
        angle = -math.pi / 2 if kind == "gates" else rng.choice((-1, 1)) * math.pi / 2 + rng.uniform(-0.5, 0.5)
        y = rng.uniform(-4, 6)
        if kind == "gates":
            wall = y - length * 0.5 - rng.uniform(8, 12)
            block(canvas, 0, wall - 15, 3 * canvas.reach, 30, 0, rng.uniform(7, 12))
        for k in range(-2, 3):
            x = k * pitch + shift
            canvas.band(((x, y - length), (x, y + length)), 0.4, PAVEMENT, mix(YELLOW, ground, 0.2))
            if rng.random() < 0.8 or k == 0:
                jet(canvas, x + rng.uniform(-1, 1), y + rng.uniform(-2, 2), length, angle + rng.uniform(-0.05, 0.05))
                if kind == "gates":
                    bridge = ((x - 9, y - length * 0.5 - 10), (x - 7, y - length * 0.36), (x - 2.5, y - length * 0.3))
                    canvas.band(bridge, 2.6, BUILDING, shade(palette.concrete, 1.1), 5)
            for _ in range(rng.randint(0, 3)):
                px, py = x + pitch * 0.5 + rng.uniform(-3, 3), y + rng.uniform(-0.6, 0.5) * length
                car(canvas, px, py, rng.uniform(0, 3))
        if rng.random() < 0.25:
            far = y + length * 0.5 + rng.uniform(10, 16)
            canvas.rectangle(0, far + 50, 4 * canvas.reach, 100, 0, GRASS, palette.grass)
    if rng.random() < 0.2:
        stalls(canvas, 0, 0.44 * canvas.extent, 24, 0, 0.8)


def runway(canvas: Canvas) -> None:
    """A runway with centre line, edge lines, threshold bars or numbers, tyre marks, and a strip of grass or sand."""
    rng, palette = canvas.rng, canvas.palette
    ground = rng.random()
    if ground < 0.5:
        lawn(canvas)
    elif ground < 0.7:
        canvas.fill(SAND, mix(palette.sand, palette.soil, 0.3))
    else:
        canvas.fill(SOIL, palette.soil)
    half = rng.choice((11.5, 15, 22.5))
    middle = rng.uniform(-9, 9)
    reach = canvas.reach
    colour = rng.choice((palette.asphalt, shade(palette.asphalt, 0.62), mix(palette.concrete, palette.asphalt, 0.3)))
    ends = ((-reach, middle), (reach, middle))
    shoulder = rng.choice((0, 4, 8))
    canvas.band(ends, 2 * (half + shoulder), PAVEMENT, shade(mix(colour, palette.concrete, 0.4), 0.95))
    canvas.band(ends, 2 * half, PAVEMENT, colour)
    pale = mix(WHITE, colour, 0.05)
    _, y = canvas.coordinates()
    lanes = np.sign(wave((y - np.float32(middle)) * np.float32(1 / 7.6))) * np.float32(0.02)
    rubber = np.clip(np.float32(1.2) - np.abs(np.abs(y - np.float32(middle)) - np.float32(4)) * np.float32(0.22), 0, 1)
    rubber *= np.clip(np.float32(0.55) + canvas.streaks(0, 60, 0.8, 3) * np.float32(0.35), 0, 1)
    canvas.pattern(PAVEMENT, lanes - np.float32(rng.uniform(0, 0.35)) * rubber)
    if rng.random() < 0.85:
        for side in (-1, 1):
            canvas.band(
                ((-reach, middle + side * (half - 1)), (reach, middle + side * (half - 1))), 0.9, PAVEMENT, pale
            )
    kind = rng.random()
    start = rng.uniform(-0.25, 0.1) * canvas.extent
    if kind < 0.35:
        # The threshold: bars, then the number, then the centre line.
        bars = 4 if half < 13 else 6
        for k in range(bars):
            for side in (-1, 1):
                v = middle + side * (1.2 + (k + 0.5) * (half - 3) / bars)
                canvas.rectangle(start - 14, v, 20, (half - 3) / bars * 0.55, 0, PAVEMENT, pale)
        number(canvas, start + 9, middle, rng.randint(1, 36), pale)
        canvas.rectangle(start - 26, middle, 1.6, 2 * half, 0, PAVEMENT, pale)
        lines = start + 24
    else:
        lines = -reach + rng.uniform(0, 20)
        if kind < 0.65:
            for side in (-1, 1):
                canvas.rectangle(start, middle + side * half * 0.5, 22, half * 0.22, 0, PAVEMENT, pale)
    while lines < reach:
        canvas.rectangle(lines + 9, middle, 18, 0.9, 0, PAVEMENT, pale)
        lines += 30
    outside = half + shoulder
    if rng.random() < 0.3:
        px = rng.uniform(-0.2, 0.3) * canvas.extent
        side = rng.choice((-1, 1))
        exit_road = [
            (px - 30, middle),
            (px - 8, middle + side * 6),
            (px + 6, middle + side * outside),
            (px + 24, middle + side * (outside + 40)),
        ]
        canvas.band(exit_road, 12, PAVEMENT, shade(colour, 1.05))
        canvas.band(exit_road, 0.5, PAVEMENT, YELLOW)
    if rng.random() < 0.3 and shoulder:
        for k in range(-5, 6):
            for side in (-1, 1):
                slant = ((k * 12, middle + side * (half + 1)), (k * 12 + 4, middle + side * (outside + 1)))
                canvas.band(slant, 0.6, PAVEMENT, YELLOW)


def number(canvas: Canvas, x: float, y: float, value: int, colour: Colour) -> None:
    """Paints a two-figure runway number, 10 m high, readable from the threshold."""
    segments = {
        "0": "abcdef",
        "1": "bc",
        "2": "abged",
        "3": "abgcd",
        "4": "fgbc",
        "5": "afgcd",
        "6": "afgedc",
        "7": "abc",
    }
    segments |= {"8": "abcdefg", "9": "abcdfg"}
    # Seven segments as (along, across, length, width) in a 9 x 3 m box.
    box: dict[str, tuple[float, float, float, float]] = {
        "a": (4.5, 0, 1, 3.6),
        "g": (0, 0, 1, 3.6),
        "d": (-4.5, 0, 1, 3.6),
    }
    box |= {"f": (2.2, -1.5, 5, 0.9), "b": (2.2, 1.5, 5, 0.9), "e": (-2.2, -1.5, 5, 0.9), "c": (-2.2, 1.5, 5, 0.9)}
    for place, figure in enumerate(f"{value:02d}"):
        for segment in segments[figure]:
            u, v, long, wide = box[segment]
            canvas.rectangle(x + u, y + v + (place - 0.5) * 6, long, wide, 0, PAVEMENT, colour)


def harbor(canvas: Canvas) -> None:
    """Piers with finger docks and boats at their berths on calm water, sometimes with a quay."""
    rng, palette = canvas.rng, canvas.palette
    water = shade(mix(palette.water, (30, 46, 58), rng.uniform(0.2, 0.9)), rng.uniform(0.7, 1.1))
    canvas.fill(WATER, water)
    ripples(canvas, WATER, rng.uniform(0.03, 0.1), rng.uniform(0, 3), rng.uniform(1.5, 4))
    boat = rng.choice((8.0, 10.0, 12.0, 15.0))
    berth, channel = boat * rng.uniform(0.36, 0.42), boat * rng.uniform(0.8, 1.6)
    pitch = 2 * boat * 1.12 + channel + 2.2
    full = rng.uniform(0.75, 0.98)
    x = -canvas.reach - rng.uniform(0, pitch)
    fingers, double = rng.random() < 0.8, rng.random() < 0.6
    step = 2 if double else 1
    while x < canvas.reach + pitch:
        count = int(2 * canvas.reach / berth) + 2
        for side in (-1, 1):
            for k in range(count):
                y = -canvas.reach + k * berth
                if not canvas.sees(x + side * boat / 2, y, boat):
                    continue
                if fingers and k % step == 0:
                    pier(canvas, (x, y), (x + side * boat * 0.95, y), 0.9)
                if rng.random() < full:
                    long = boat * rng.uniform(0.72, 1.05)
                    angle = 0 if side > 0 else math.pi
                    out = 1.4 + long / 2 + rng.uniform(0, 0.4)
                    ship(canvas, x + side * out, y + berth / 2, long, angle if rng.random() < 0.75 else angle + math.pi)
        pier(canvas, (x, -canvas.reach), (x, canvas.reach), 2.4)
        x += pitch
    if rng.random() < 0.15:
        edge = rng.uniform(0.3, 0.42) * canvas.extent
        canvas.rectangle(0, edge + 50, 4 * canvas.reach, 100, 0, PAVEMENT, palette.concrete, 1.5)
        stalls(canvas, 0, edge + 5, 26, 0, 0.6)
        if rng.random() < 0.5:
            block(canvas, 0, edge + 26, 50, 24, 0, 6)


def storagetanks(canvas: Canvas) -> None:
    """Round tanks of one works behind low walls, with roads, pipes, sheds and lorries on soil, grass or concrete."""
    rng, palette = canvas.rng, canvas.palette
    ground = rng.random()
    if ground < 0.4:
        canvas.fill(SOIL, palette.soil)
    elif ground < 0.6:
        canvas.fill(PAVEMENT, mix(palette.concrete, palette.asphalt, 0.4))
    elif ground < 0.75:
        canvas.fill(SAND, palette.sand)
    else:
        lawn(canvas, GRASS, rng.choice((0, 0.4)))
    reach = canvas.reach
    radius = rng.choice((5, 6, 8, 10, 10, 13, 16, 24)) * rng.uniform(0.85, 1.1)
    pitch = 2 * radius + rng.uniform(5, 12)
    count = max(1, min(4, int(canvas.extent / pitch)))
    columns, rows = rng.randint(min(2, count), count), rng.randint(1, count)
    cx, cy = rng.uniform(-0.08, 0.08) * canvas.extent, rng.uniform(-0.08, 0.08) * canvas.extent
    width, depth = columns * pitch, rows * pitch
    if rng.random() < 0.6:
        bund = shade(palette.concrete, 0.95) if rng.random() < 0.5 else shade(palette.soil, 1.12)
        outline = [(cx - width / 2, cy - depth / 2), (cx + width / 2, cy - depth / 2), (cx + width / 2, cy + depth / 2)]
        outline += [(cx - width / 2, cy + depth / 2), (cx - width / 2, cy - depth / 2)]
        for first, second in pairwise(outline):
            canvas.band((first, second), 1.6, FIXTURE, bund, 1.5)
    if rng.random() < 0.7:
        road = cy + depth / 2 + 6
        canvas.rectangle(0, road, 3 * reach, 7, 0, PAVEMENT, palette.asphalt)
        traffic(canvas, lambda _: 0.0, road, 30, True, 0.5)
        if rng.random() < 0.6:
            side = cx - width / 2 - 6
            canvas.rectangle(side, 0, 7, 3 * reach, 0, PAVEMENT, palette.asphalt)
        if rng.random() < 0.6:
            for k in range(-2, 3):
                x, y = k * 24 + rng.uniform(-4, 4), road + 14
                if rng.random() < 0.5:
                    block(canvas, x, y, rng.uniform(12, 20), rng.uniform(8, 14), 0, rng.uniform(4, 7))
                else:
                    gabled(canvas, x, y, rng.uniform(14, 20), 10, 0, vary(rng, (176, 172, 168), 0.15), False, 6)
    for row in range(rows):
        y = cy + (row - (rows - 1) / 2) * pitch
        for k in range(2):
            pipe = y + radius + 1.5 + k * 0.9
            canvas.band(((cx - width / 2, pipe), (cx + width / 2, pipe)), 0.45, FIXTURE, (170, 168, 162), 0.8)
        for column in range(columns):
            x = cx + (column - (columns - 1) / 2) * pitch
            size = radius * rng.choice((1, 1, 1, 0.8, 0.6))
            canvas.circle(x, y, size + 1.2, FIXTURE, shade(palette.concrete, 0.9))
            tank(canvas, x, y, size, rng.uniform(7, 13))
    trees = rng.choice((0, 0, 0.3))
    if trees:
        canvas.grow(6, (1.6, 3.4), lambda x, y: trees if y < cy - depth / 2 - 5 else 0.0)
