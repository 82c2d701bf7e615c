"""A camera for Chromium: 640×360 at 20 frames per second, a person in front of a wall who sways a little.

Smaller than the camera a page asks for, so that encoding two of them leaves a two-core machine room for the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, FRAMES_PER_SECOND = 640, 360, 20
FRAMES = 2 * FRAMES_PER_SECOND

Colour = tuple[int, int, int]  # Y, U, V


@dataclass(frozen=True, slots=True)
class Person:
    wall: Colour
    skin: Colour
    hair: Colour
    clothes: Colour


PEOPLE = (
    Person(wall=(150, 122, 134), skin=(176, 112, 150), hair=(60, 124, 134), clothes=(86, 142, 116)),
    Person(wall=(164, 132, 120), skin=(132, 112, 156), hair=(34, 128, 130), clothes=(108, 108, 168)),
)


def write(folder: Path, number: int) -> Path:
    """The Y4M file of one of the PEOPLE, made when it is missing."""
    person = PEOPLE[number % len(PEOPLE)]
    path = folder / f"camera-{number % len(PEOPLE)}.y4m"
    if not path.exists():
        header = f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FRAMES_PER_SECOND}:1 Ip A1:1 C420jpeg\n".encode()
        path.write_bytes(header + b"".join(b"FRAME\n" + _frame(person, n) for n in range(FRAMES)))
    return path


def _frame(person: Person, number: int) -> bytes:
    """One I420 picture: planes Y, U and V, the latter two at half the size."""
    sway = math.sin(2 * math.pi * number / FRAMES)
    return b"".join(_plane(person, sway, plane, 1 if plane == 0 else 2) for plane in range(3))


def _plane(person: Person, sway: float, plane: int, scale: int) -> bytes:
    rows = []
    for row in range(HEIGHT // scale):
        y = row * scale
        # the wall is lighter towards the ceiling
        shade = (HEIGHT / 2 - y) / 9 if plane == 0 else 0
        line = bytearray([round(person.wall[plane] + shade)]) * (WIDTH // scale)
        for colour, centre_x, centre_y, radius_x, radius_y in (
            (person.clothes, 320 + 8 * sway, 400, 170, 150),
            (person.skin, 320 + 10 * sway, 262, 30, 46),
            (person.hair, 320 + 14 * sway, 150, 78, 92),
            (person.skin, 320 + 14 * sway, 172, 64, 82),
        ):
            inside = 1 - ((y - centre_y) / radius_y) ** 2
            if inside > 0:
                half = radius_x * math.sqrt(inside)
                begin = max(0, round((centre_x - half) / scale))
                end = min(WIDTH // scale, round((centre_x + half) / scale))
                line[begin:end] = bytes([colour[plane]]) * (end - begin)
        rows.append(bytes(line))
    return b"".join(rows)
