"""Damaged copies of real descriptions."""

from __future__ import annotations

import random


def mutated(original: str, seed: int, edits: int) -> str:
    """`original` with lines dropped, doubled, moved and damaged."""
    seeded = random.Random(seed)
    lines = original.split("\n")
    for _ in range(edits):
        at = seeded.randrange(len(lines))
        match seeded.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(seeded.randrange(len(lines)), lines[at])
            case 2:
                line = lines[at]
                cut = seeded.randrange(len(line) + 1)
                lines[at] = line[:cut] + seeded.choice(["", " ", ":", "/", "0", "-1", "é", "\x00"]) + line[cut + 1 :]
            case 3:
                lines[at] = lines[at][: seeded.randrange(len(lines[at]) + 1)]
            case 4:
                words = lines[at].split(" ")
                seeded.shuffle(words)
                lines[at] = " ".join(words)
            case _:
                other = seeded.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
        if not lines:
            break
    return "\n".join(lines)
