"""How fast the built-in scenes are drawn: images a second on one core, by image size and by scene class.

Run: python benchmarks/scenes.py
"""

import time

from rsml.scenes import SCENES, draw


def speed(indices: list[int], size: int) -> float:
    # The processor's time of this process, so that other work on the machine does not count.
    start = time.process_time()
    for index in indices:
        draw(index, size=size)
    return len(indices) / (time.process_time() - start)


def main() -> None:
    print("size  images/s")
    for size, rounds in ((64, 12), (128, 12), (256, 4)):
        indices = list(range(rounds * len(SCENES)))
        speed(indices[: 2 * len(SCENES)], size)
        print(f"{size:4d}  {speed(indices, size):8.0f}")
    print("\nscene class        images/s at 128")
    for number, scene in enumerate(SCENES):
        print(f"{scene:18s} {speed([number + k * len(SCENES) for k in range(8)], 128):8.0f}")


if __name__ == "__main__":
    main()
