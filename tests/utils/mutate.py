"""Small damage to bytes, as a pure function of a seed: what every reader of foreign files must take in one line."""

import random

import numpy as np


def mutants(content: bytes, count: int, seed: int = 0):
    """Yields copies with flipped bits, exchanged, cut, doubled or removed pieces, and numbers at their limits."""
    for number in range(count):
        chance = random.Random(f"{seed}-{number}")
        made = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at, length = chance.randrange(len(made) or 1), chance.choice((1, 1, 2, 4, 8, 64))
            kind = chance.randrange(6)
            if kind == 0 and made:
                made[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                made[at : at + length] = chance.randbytes(length)
            elif kind == 2:
                del made[at : at + length]
            elif kind == 3:
                made[at:at] = made[chance.randrange(len(made) or 1) :][:length]
            elif kind == 4:
                limit = chance.choice((0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1))
                made[at : at + 8] = np.array(limit, np.uint64).tobytes()
            else:
                del made[at:]
            if not made:
                break
        yield bytes(made)
