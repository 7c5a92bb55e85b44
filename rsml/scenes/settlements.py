"""Scenes of towns: city blocks, housing of three densities, mobile homes, parking."""

from __future__ import annotations

import math

import numpy as np

from rsml.scenes.canvas import Canvas
from rsml.scenes.ground import dashes, stalls, traffic, tree_line, yard
from rsml.scenes.materials import GRASS, PAVEMENT, SOIL, mix, shade, vary
from rsml.scenes.nature import lawn
from rsml.scenes.structures import block, gabled, house, mobile_home, pool
from rsml.scenes.vehicles import WHITE, car


def _straight(_: float) -> float:
    return 0.0


def street(canvas: Canvas, y: float, width: float, parked: float = 0.3, marked: bool = False) -> None:
    """Draws a street along x with pavements for walkers, parked cars and a little traffic."""
    rng, palette = canvas.rng, canvas.palette
    ends = ((-canvas.reach, y), (canvas.reach, y))
    canvas.band(ends, width + 3.6, PAVEMENT, shade(palette.concrete, 1.02))
    canvas.band(ends, width, PAVEMENT, palette.asphalt)
    if marked:
        dashes(canvas, _straight, y, 3, 5, mix(WHITE, palette.asphalt, 0.2))
    traffic(canvas, _straight, y + width * 0.2, 80, True, 0.03)
    for side in (-1, 1):
        x = -canvas.reach
        while x < canvas.reach:
            x += 6.2 + rng.expovariate(1 / 6)
            if rng.random() < parked:
                car(canvas, x, y + side * (width / 2 - 1.2), rng.choice((0, math.pi)))


def buildings(canvas: Canvas) -> None:
    """Large flat-roofed buildings along streets, with parking and a few trees between."""
    rng, palette = canvas.rng, canvas.palette
    ground = rng.random()
    if ground < 0.7:
        canvas.fill(PAVEMENT, mix(palette.asphalt, palette.concrete, rng.random()))
    else:
        lawn(canvas)
    across, along = rng.uniform(24, 42), rng.uniform(26, 44)
    shift_x, shift_y = rng.uniform(-0.5, 0.5) * across, rng.uniform(-0.5, 0.5) * along
    tall = rng.choice((6, 8, 10, 15, 24))
    rows, columns = int(canvas.reach / along) + 1, int(canvas.reach / across) + 1
    if rng.random() < 0.75:
        street(canvas, (0.5 - rng.randint(0, 1)) * along + shift_y, rng.uniform(8, 12), 0.5, True)
    planted = rng.choice((0, 0.3, 0.7))
    for row in range(-rows, rows + 1):
        for column in range(-columns, columns + 1):
            x, y = column * across + shift_x, row * along + shift_y
            length, width = across - rng.uniform(4, 11), along - rng.uniform(15, 20)
            kind = rng.random()
            if kind < 0.14:
                canvas.rectangle(x, y, across - 4, along - 16, 0, PAVEMENT, palette.asphalt)
                for lane in (-1, 1):
                    stalls(canvas, x, y + lane * 4.5, int((across - 6) / 2.75), 0, 0.6)
            elif kind < 0.22 or ground >= 0.7:
                canvas.rectangle(x, y, across - 3, along - 15, 0, GRASS, vary(rng, palette.grass, 0.1))
            if kind >= 0.22:
                if tall < 9 and rng.random() < 0.25:
                    gabled(canvas, x, y, length, width, 0, vary(rng, (150, 140, 134), 0.15), True, tall)
                else:
                    block(canvas, x, y, length, width, 0, tall * rng.uniform(0.7, 1.5), rng.random() < 0.5)
            if rng.random() < planted:
                edge = y + along / 2 - 8.5
                tree_line(canvas, (x - across / 2, edge), (x + across / 2, edge), rng.uniform(5, 9), (1.4, 3))


def residential(
    canvas: Canvas,
    lot: tuple[float, float],
    home: tuple[float, float],
    trees: float,
    bare: float,
    pools: float,
    turned: float = 0.25,
) -> None:
    """Draws streets with a row of lots on either side: house at the front, drive, yard and trees behind.

    Args:
        canvas: the sheet.
        lot: frontage and depth of a lot, metres.
        home: length and width of a house.
        trees: trees for each lot, on average.
        bare: share of yards of bare soil.
        pools: share of lots with a swimming pool.
        turned: share of houses whose shorter side faces the street.
    """
    rng, palette = canvas.rng, canvas.palette
    frontage, depth = lot
    road = rng.uniform(6.5, 9)
    pitch = 2 * depth + road + 3.6
    lawn(canvas)
    first = rng.uniform(0, pitch) - canvas.reach - pitch
    shift = rng.uniform(0, frontage)
    planted: list[tuple[float, float]] = []
    across = rng.uniform(-0.3, 0.3) * canvas.extent if rng.random() < 0.3 else 1e9
    parked = rng.uniform(0.05, 0.5)
    y = first
    while y < canvas.reach + pitch:
        for side in (-1, 1):
            count = int(2 * canvas.reach / frontage) + 2
            for k in range(count):
                x = -canvas.reach + shift + k * frontage
                middle = y + side * (road / 2 + 1.8 + depth / 2)
                if abs(middle) > canvas.reach + depth:
                    continue
                yard(canvas, x, middle, frontage, depth, 0, bare)
                if abs(x - across) < frontage * 0.7:
                    continue
                front = rng.uniform(3, 5)
                length, width = (home[0] * rng.uniform(0.85, 1.08), home[1] * rng.uniform(0.85, 1.12))
                hx, hy = x + rng.uniform(-0.05, 0.05) * frontage, y + side * (road / 2 + 1.8 + front + width / 2)
                drive = x + frontage * 0.33
                out = y + side * (road / 2 + 1.8 + front / 2 + 1)
                canvas.rectangle(drive, out, 3.4, front + 2, 0, PAVEMENT, shade(palette.concrete, 1.03))
                has_pool, has_car = rng.random() < pools, rng.random() < 0.45
                back = y + side * (road / 2 + 1.8 + depth * rng.uniform(0.72, 0.86))
                if has_pool:
                    pool(canvas, x + rng.uniform(-0.15, 0.15) * frontage, back, 0)
                elif rng.random() < 0.3:
                    gabled(canvas, x - frontage * 0.28, back, 3.4, 2.8, 0, vary(rng, (170, 164, 156), 0.15), False, 2.6)
                if rng.random() < turned:
                    house(canvas, x, y + side * (road / 2 + 1.8 + front + length / 2), length, width, math.pi / 2)
                else:
                    house(canvas, hx, hy, length, width, 0)
                if has_car:
                    car(canvas, drive, out, math.pi / 2)
                for _ in range(int(trees + rng.random())):
                    far = rng.uniform(0.62, 0.98) if rng.random() < 0.7 else 0.06
                    planted.append((x + rng.uniform(-0.5, 0.5) * frontage, y + side * (road / 2 + 1.8 + depth * far)))
        y += pitch
    y = first
    while y < canvas.reach + pitch:
        street(canvas, y, road, parked)
        y += pitch
    if across < 1e9:
        canvas.rectangle(across, 0, road, 2 * canvas.reach, 0, PAVEMENT, palette.asphalt)
    size = min(4.2, 0.22 * frontage)
    for px, py in planted:
        canvas.plant(px, py, rng.uniform(0.45, 1) * size, rng.choice(palette.trees))


def denseresidential(canvas: Canvas) -> None:
    """Houses wall to wall on narrow lots, or long rows of flats."""
    rng, palette = canvas.rng, canvas.palette
    if rng.random() < 0.65:
        trees = rng.choice((0, 0.4, 1.0))
        lot = (rng.uniform(10, 12.5), rng.uniform(16, 19))
        residential(canvas, lot, (11.8, 0.86 * lot[0]), trees, rng.choice((0, 0.15, 0.4)), 0, 0.95)
        return
    lawn(canvas, GRASS, rng.choice((0, 0.3)))
    pitch, length, width = rng.uniform(27, 32), rng.uniform(19, 30), rng.uniform(11, 14)
    shift_x, shift_y = rng.uniform(-9, 9), rng.uniform(-9, 9)
    colour = vary(rng, rng.choice(((168, 110, 84), (134, 120, 112), (116, 108, 106), (176, 160, 140))), 0.1)
    hipped, planted = rng.random() < 0.6, rng.choice((0, 0.4, 0.9))
    count = int(canvas.reach / pitch) + 2
    for row in range(-count, count + 1):
        y = row * pitch + shift_y
        if row % 2:
            street(canvas, y + pitch / 2, 7, 0.7)
        else:
            ends = ((-canvas.reach, y + pitch / 2), (canvas.reach, y + pitch / 2))
            canvas.band(ends, 1.8, PAVEMENT, palette.concrete)
        reach = int(canvas.reach / (length + 7)) + 1
        for column in range(-reach, reach + 1):
            x = column * (length + 7) + shift_x
            tone = vary(rng, colour, 0.06, 0.02)
            gabled(canvas, x, y, length, width, 0, tone, hipped, 7.5)
            for end in (-0.3, 0.3):
                gabled(canvas, x + end * length, y, width + 4, 6.5, math.pi / 2, tone, hipped, 7.2)
            if rng.random() < planted:
                for _ in range(3):
                    px, py = x + rng.uniform(-0.5, 0.5) * length, y + rng.choice((-1, 1)) * (width / 2 + 3)
                    canvas.plant(px, py, rng.uniform(1.4, 3), rng.choice(palette.trees))


def mediumresidential(canvas: Canvas) -> None:
    """Houses on lots with yards and trees, some with a pool."""
    rng = canvas.rng
    lot = (rng.uniform(18, 24), rng.uniform(26, 32))
    trees = rng.choice((0, 1.5, 2.5, 3.5, 3.5))
    residential(canvas, lot, (rng.uniform(14, 16.5), rng.uniform(10, 12)), trees, rng.choice((0, 0.2, 0.6)), 0.18)


def mobilehomepark(canvas: Canvas) -> None:
    """Rows of long narrow homes, set askew along lanes."""
    rng, palette = canvas.rng, canvas.palette
    ground = rng.random()
    if ground < 0.35:
        canvas.fill(SOIL, palette.soil)
    elif ground < 0.6:
        canvas.fill(PAVEMENT, mix(palette.asphalt, palette.concrete, 0.6))
    else:
        lawn(canvas)
    length, pitch, lane = rng.uniform(13, 18), rng.uniform(9, 11.5), rng.uniform(6, 8)
    askew = math.pi / 2 + rng.choice((-1, 1)) * rng.uniform(0, 0.6)
    row_pitch = 2 * length * math.sin(askew) + lane + 5
    y = -canvas.reach - rng.uniform(0, row_pitch)
    planted = rng.choice((0, 0.3, 0.6, 1.0))
    while y < canvas.reach + row_pitch:
        ends = ((-canvas.reach, y), (canvas.reach, y))
        canvas.band(ends, lane, PAVEMENT, palette.asphalt)
        for side in (-1, 1):
            count = int(2 * canvas.reach / pitch) + 3
            middle = y + side * (lane / 2 + 1.5 + length * math.sin(askew) / 2)
            for k in range(count):
                x = -canvas.reach + (k - 1) * pitch + rng.uniform(-0.6, 0.6)
                if rng.random() < 0.3:
                    drive = x + pitch / 2
                    canvas.rectangle(drive, middle, length * 0.7, 3, side * askew, PAVEMENT, palette.concrete)
                if rng.random() < 0.94:
                    mobile_home(canvas, x, middle, length * rng.uniform(0.85, 1.05), side * askew)
                if rng.random() < 0.5:
                    car(canvas, x + pitch / 2, middle - side * length * 0.25, side * askew)
                if rng.random() < planted:
                    far = middle + side * length * rng.uniform(0.3, 0.6)
                    canvas.plant(x + pitch / 2, far, rng.uniform(1.2, 3), rng.choice(palette.trees))
        y += row_pitch


def parkinglot(canvas: Canvas) -> None:
    """Rows of stalls, full or half empty, with islands of trees and sometimes a verge or a building."""
    rng, palette = canvas.rng, canvas.palette
    canvas.fill(PAVEMENT, palette.asphalt)
    cracks = canvas.streaks(0, 40, 1.2, 3)
    canvas.pattern(PAVEMENT, np.float32(-0.06) * (cracks > np.float32(1.2)))
    aisle = rng.uniform(6, 8)
    pitch = 2 * 5.1 + aisle
    full = rng.choice((0.35, 0.6, 0.8, 0.92))
    island = rng.random()
    first = -canvas.reach + rng.uniform(0, pitch)
    count = int(2 * canvas.reach / 2.75)
    gap = rng.choice((9, 12, 16, 99))
    row = 0
    while first + row * pitch < canvas.reach:
        y = first + row * pitch
        if island < 0.35:
            canvas.band(((-canvas.reach, y), (canvas.reach, y)), 1.6, GRASS, palette.grass)
        for side in (-1, 1):
            start = 0
            while start < count:
                run = min(gap, count - start)
                centre = -canvas.reach + (start + run / 2) * 2.75
                stalls(canvas, centre, y + side * 2.9, run, 0, full * rng.uniform(0.8, 1.1))
                start += run + 1
        if island < 0.6 and gap < 99:
            for k in range(gap, count, gap + 1):
                x = -canvas.reach + (k + 0.5) * 2.75
                canvas.rectangle(x, y, 2.4, 8, 0, GRASS, palette.grass)
                canvas.plant(x, y + rng.uniform(-2, 2), rng.uniform(1.3, 2.4), rng.choice(palette.trees))
        row += 1
    edge = rng.uniform(0.25, 0.4) * canvas.extent
    kind = rng.random()
    if kind < 0.25:
        canvas.rectangle(0, edge + 40, 4 * canvas.reach, 80, 0, GRASS, palette.grass)
        if rng.random() < 0.6:
            tree_line(canvas, (-canvas.reach, edge + 4), (canvas.reach, edge + 4), 6, (1.8, 3.4))
    elif kind < 0.45:
        canvas.rectangle(0, edge + 40, 4 * canvas.reach, 80, 0, PAVEMENT, palette.concrete)
        block(canvas, 0, edge + 24, 70, 40, 0, rng.uniform(6, 10))
