"""The things that move: cars, lorries, ships and aeroplanes."""

from __future__ import annotations

import math

from rsml.scenes.canvas import Canvas, Point
from rsml.scenes.materials import AIRPLANE, CAR, SHIP, Colour, mix, shade, vary

WHITE: Colour = (232, 232, 228)
_CARS: tuple[Colour, ...] = (
    (236, 236, 234),
    (222, 222, 220),
    (176, 178, 182),
    (140, 144, 150),
    (200, 202, 204),
    (112, 116, 122),
    (82, 84, 90),
    (64, 66, 72),
    (38, 38, 44),
    (52, 66, 110),
    (148, 40, 38),
    (110, 36, 40),
    (196, 186, 160),
    (52, 84, 72),
)


def car(canvas: Canvas, x: float, y: float, angle: float) -> None:
    """Draws a car whose length lies along `angle`."""
    if not canvas.sees(x, y, 3):
        return
    rng = canvas.rng
    colour, length = vary(rng, rng.choice(_CARS), 0.1, 0.02), rng.uniform(4.1, 5.1)
    cos, sin = math.cos(angle), math.sin(angle)
    canvas.rectangle(x, y, length, 1.95, angle, CAR, colour, 1.5)
    glass = mix((34, 38, 46), colour, 0.12)
    for offset, depth in ((0.16 * length, 0.75), (-0.31 * length, 0.5)):
        canvas.rectangle(x + cos * offset, y + sin * offset, depth, 1.5, angle, CAR, glass)


def lorry(canvas: Canvas, x: float, y: float, angle: float) -> None:
    """Draws a lorry with a box and a cab."""
    if not canvas.sees(x, y, 11):
        return
    rng = canvas.rng
    length = rng.uniform(9, 15)
    cos, sin = math.cos(angle), math.sin(angle)
    box = vary(rng, rng.choice((WHITE, (214, 210, 200), (170, 130, 110), (150, 160, 172))), 0.08)
    canvas.rectangle(x, y, length, 2.6, angle, CAR, box, 3.8)
    front = length / 2 + 1.6
    canvas.rectangle(x + cos * front, y + sin * front, 2.2, 2.4, angle, CAR, vary(rng, rng.choice(_CARS)), 2.8)


def ship(canvas: Canvas, x: float, y: float, length: float, angle: float) -> None:
    """Draws a moored boat with its bow along `angle`: a motor yacht or a sailing boat."""
    if not canvas.sees(x, y, length):
        return
    rng = canvas.rng
    beam = length * rng.uniform(0.27, 0.34)
    cos, sin = math.cos(angle), math.sin(angle)

    def outline(shrink: float, back: float, front: float) -> list[Point]:
        half = beam / 2 * shrink
        hull = ((back, -0.8), (0.1, -1), (0.3, -0.75), (front, 0), (0.3, 0.75), (0.1, 1), (back, 0.8))
        return [(x + u * length * cos - v * half * sin, y + u * length * sin + v * half * cos) for u, v in hull]

    hull = vary(rng, rng.choice((WHITE, WHITE, WHITE, (226, 218, 200), (60, 78, 120), (200, 206, 212))), 0.06)
    canvas.polygon(outline(1, -0.5, 0.5), SHIP, hull, 1.6)
    canvas.polygon(outline(0.7, -0.46, 0.38), SHIP, mix(vary(rng, (206, 196, 176), 0.1), WHITE, 0.4))
    if rng.random() < 0.5:
        cover = vary(rng, rng.choice(((50, 78, 140), (40, 50, 70), (120, 110, 96), (60, 100, 104))), 0.1)
        canvas.rectangle(
            x - cos * 0.28 * length, y - sin * 0.28 * length, length * 0.26, beam * 0.62, angle, SHIP, cover
        )
    cabin = -0.02 * length
    canvas.rectangle(x + cos * cabin, y + sin * cabin, length * 0.32, beam * 0.56, angle, SHIP, WHITE, 2.8)
    glass = cabin + length * 0.15
    canvas.rectangle(x + cos * glass, y + sin * glass, length * 0.06, beam * 0.5, angle, SHIP, (58, 66, 78))


def airplane(canvas: Canvas, x: float, y: float, length: float, angle: float) -> None:
    """Draws an aeroplane with its nose along `angle`: a jet or, below 16 m, one with straight wings."""
    if not canvas.sees(x, y, length):
        return
    rng = canvas.rng
    cos, sin = math.cos(angle), math.sin(angle)
    body = vary(rng, (232, 232, 230), 0.05, 0.01)
    if rng.random() < 0.25:
        body = vary(rng, rng.choice(((60, 76, 150), (190, 190, 194), (150, 54, 50), (206, 196, 176))), 0.1)
    wing = shade(mix(body, (214, 216, 218), 0.7), 0.94)
    tail = vary(rng, rng.choice(((46, 62, 128), (160, 44, 44), (228, 228, 228), (40, 96, 110), (216, 150, 60))), 0.1)
    small = length < 16

    def lay(points: list[Point], colour: Colour, height: float) -> None:
        turned = [(x + (u * cos - v * sin) * length, y + (u * sin + v * cos) * length) for u, v in points]
        canvas.polygon(turned, AIRPLANE, colour, height)

    high = 0.045 * length + 1.5
    for side in (-1, 1):
        if small:
            lay([(0.16, 0), (0.13, side * 0.6), (-0.01, side * 0.6), (-0.04, 0)], wing, high)
            lay([(-0.36, 0), (-0.38, side * 0.2), (-0.47, side * 0.2), (-0.48, 0)], wing, high)
        else:
            lay([(0.17, 0), (-0.13, side * 0.47), (-0.21, side * 0.47), (-0.1, side * 0.12), (-0.12, 0)], wing, high)
            lay([(-0.33, 0), (-0.46, side * 0.18), (-0.51, side * 0.18), (-0.46, 0)], wing, high)
            for out in (0.16, 0.3)[: 2 if length > 38 else 1]:
                front = 0.2 - 0.52 * out
                nacelle = [(front, side * (out - 0.022)), (front, side * (out + 0.022))]
                nacelle += [(front - 0.12, side * (out + 0.018)), (front - 0.12, side * (out - 0.018))]
                lay(nacelle, shade(body, 0.72), high - 0.3)
    half = 0.055 if small else 0.048
    fuselage = [(0.5, 0), (0.475, 0.55 * half), (0.42, half), (-0.25, half), (-0.5, 0.25 * half)]
    lay(fuselage + [(u, -v) for u, v in reversed(fuselage)], body, high + 0.02 * length)
    lay([(0.46, 0.4 * half), (0.46, -0.4 * half), (0.43, -0.6 * half), (0.43, 0.6 * half)], (52, 58, 70), high)
    lay([(u, v * 0.35) for u, v in fuselage[1:]] + [(-0.5, 0), (0.47, 0)], shade(body, 1.1), high + 0.03 * length)
    lay([(-0.34, 0.004), (-0.5, 0.014), (-0.5, -0.014), (-0.34, -0.004)], tail, high + 0.14 * length)
