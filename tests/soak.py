"""What a soak is given: how long, and what decides its faults."""

import random
from collections.abc import Callable

MINUTES = 20.0


class Soak:
    """One soak. The same seed causes the same faults, in the same order; `say` prints a line at once."""

    def __init__(self, *, minutes: float, seed: int | None, say: Callable[[str], None]) -> None:
        self.seconds = minutes * 60
        self.seed = random.randrange(1_000_000) if seed is None else seed
        self.chance = random.Random(self.seed)
        self.say = say
