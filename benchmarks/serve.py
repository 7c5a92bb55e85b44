"""How `rsml serve` holds under load on loopback: latency, throughput beside `model.predict`, memory, wrong answers.

    RSML_TEST_DATA=... python benchmarks/serve.py [--clients 1 8 32 64] [--requests 400] [--soak 20000]

EfficientNet-Lite0 with ImageNet weights from RSML_TEST_DATA (a random start without), 17 labels, scenes of UC Merced
(drawn ones without) as JPEG of 128 px. Each client sends one image after the other over one connection; every tenth
upload of the soak is malformed, and every answer is compared with that of the model in this process. The generator is
a process of its own and shares the processors with the service. Prints the table of docs/serve.md.
"""

import argparse
import contextlib
import http.client
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import rsml

SIDE, LABELS, PICTURES = 128, 17, 64
SHARED = os.environ.get("RSML_TEST_DATA")
BOUNDARY = "rsml-benchmark"


def scenes() -> list[bytes]:
    """Different pictures, as JPEG."""
    files = sorted(Path(SHARED, "data", "ucm_tif").glob("*/*.tif")) if SHARED else []
    random, made = np.random.default_rng(0), []
    for number in range(PICTURES):
        if files:
            picture = Image.open(files[number * len(files) // PICTURES]).convert("RGB").resize((SIDE, SIDE))
        else:
            coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
            picture = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def write_model(file: Path) -> None:
    """A classifier with a head of random weights."""
    from rsml.layers.scene_predictions import ScenePredictions
    from rsml.models import build_classifier, load_backbone

    import keras  # isort: skip  # after rsml, which quiets TensorFlow

    keras.utils.set_random_seed(0)
    weights = Path(SHARED, "weights", "efficientnet_lite0_imagenet_notop.keras") if SHARED else None
    backbone = load_backbone("efficientnet_lite0", image_size=SIDE, weights=weights)
    network = build_classifier(backbone, LABELS).network
    last = ScenePredictions([f"label {number}" for number in range(LABELS)])
    keras.Model(network.input, last(network.output["logits"])).save(file)


def expected(model: Any, pictures: list[bytes], batch: int) -> tuple[np.ndarray, Callable[[], float]]:
    """The right scores, and what measures the seconds that `model.predict` takes for one batch of sixteen in a row."""
    from rsml.data.images import decode_bytes

    images = np.stack([decode_bytes(picture) for picture in pictures]).astype(np.float32)
    scores = model.predict(images, batch_size=batch, verbose=0)
    some = np.concatenate([images] * (16 * batch // len(images) + 1))[: 16 * batch]

    def seconds() -> float:
        begun = time.perf_counter()
        model.predict(some, batch_size=batch, verbose=0)
        return (time.perf_counter() - begun) / 16

    seconds()
    return scores, seconds


@contextlib.contextmanager
def service(file: Path, batch: int) -> Iterator[int]:
    """Serves the model in a process of its own; gives its port."""
    words = [
        sys.executable,
        "-m",
        "rsml",
        "serve",
        str(file),
        "--port",
        "0",
        "--batch-size",
        str(batch),
        "--keep-model",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        yield int(re.search(r":(\d+) ", line)[1])
    finally:
        process.terminate()
        print(f"ended with {process.wait()} on SIGTERM")


def numbers(port: int) -> dict[str, float]:
    """What /metrics says, by name and labels."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def load(
    port: int, clients: int, requests: int, pictures: list[bytes], scores: np.ndarray, malformed: int = 0
) -> tuple[float, np.ndarray, Counter]:
    """Seconds in all, of each request, and how many were right, wrong, refused and malformed."""
    begins = b'--%s\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' % BOUNDARY.encode()
    ends = b"\r\n--%s--\r\n" % BOUNDARY.encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    bad = [b"", b"<!DOCTYPE html>", pictures[0][:500], os.urandom(2000), b"II*\0" + b"\xff" * 100]
    took, outcomes, order, guard = [], Counter(), iter(range(requests)), threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with guard:
                number = next(order, None)
            if number is None:
                return
            damaged = bool(malformed) and number % malformed == malformed - 1
            row = number % len(pictures)
            content = bad[number // malformed % len(bad)] if damaged else pictures[row]
            begun = time.perf_counter()
            connection.request("POST", "/v1/predict", begins + content + ends, headers)
            reply = connection.getresponse()
            answer = json.loads(reply.read())
            seconds = time.perf_counter() - begun
            if reply.status == 429:
                outcome = "refused"
            elif damaged:
                outcome = "malformed" if reply.status == 422 else "wrong"
            else:
                found = list(answer["images"][0]["scores"].values()) if reply.status == 200 else []
                right = len(found) == LABELS and np.abs(found - scores[row]).max() <= 1e-5
                outcome = "right" if right else "wrong"
            with guard:
                took.append(seconds)
                outcomes[outcome] += 1

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun, np.array(took), outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--requests", type=int, default=400, help="of each number of clients")
    parser.add_argument("--soak", type=int, default=20_000, help="requests of the last part, every tenth malformed")
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    pictures = scenes()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.keras")
        write_model(file)
        scores, batch_time = expected(rsml.load_model(file), pictures, options.batch)
        print(f"{os.cpu_count()} processors; predict: model.predict in batches of {options.batch}, before and after")
        print("clients  images/s  predict  share  p50 ms  p99 ms  batch ms  images a batch  right  wrong  load")
        with service(file, options.batch) as port:
            load(port, 8, 64, pictures, scores)
            for clients in options.clients:
                # What else the machine does changes from minute to minute.
                batch_seconds, before = batch_time(), numbers(port)
                seconds, took, outcomes = load(port, clients, options.requests, pictures, scores)
                after, batch_seconds = numbers(port), (batch_seconds + batch_time()) / 2
                images, batches = (
                    after[name] - before[name]
                    for name in (f'rsml_batch_images_{part}{{kind="scores"}}' for part in ("sum", "count"))
                )
                p50, p99 = 1000 * np.percentile(took, (50, 99))
                rate, most = options.requests / seconds, options.batch / batch_seconds
                print(
                    f"{clients:7} {rate:9.0f} {most:8.0f} {rate / most:6.0%} {p50:7.0f} {p99:7.0f} "
                    f"{1000 * batch_seconds:9.0f} {images / batches:15.1f} {outcomes['right']:6} {outcomes['wrong']:6} "
                    f"{os.getloadavg()[0]:5.1f}",
                    flush=True,
                )
            total: Counter = Counter()
            for _ in range(5):
                total += load(port, 32, options.soak // 5, pictures, scores, malformed=10)[2]
                memory = numbers(port)["process_resident_memory_bytes"] / 2**20
                print(f"soak: {total.total()} requests, {memory:.0f} MiB, {dict(total)}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
