"""One step of each recipe: FCN-8s of VGG16 with random weights, an image of 500 x 375, in both alignments.

    python benchmarks/recipes.py

Each line is measured in a process of its own, so that its peak of memory is measured separately.
"""

import argparse
import multiprocessing as mp
import resource
import time
from typing import Any

import numpy as np

ALIGNMENTS = ("exact", "paper")


def step(pipe: Any, alignment: str, recipe: str, size: tuple[int, int]) -> None:
    """Time forward, loss, backward and update of the second step; the first one allocates memory."""
    import minifcn as mf
    from minifcn.training import RECIPES

    fcn = mf.models.FCN(mf.models.vgg16(rng=0), 21, 8, alignment=alignment, at_once=True).train()
    optimizer = RECIPES[recipe].optimizer(fcn)
    batch = RECIPES[recipe].batch_size
    rng = np.random.default_rng(0)
    x = 50 * rng.standard_normal((batch, 3, *size), np.float32)
    labels = rng.integers(0, 21, (batch, *size)).astype(np.uint8)
    for _ in range(2):
        times = [time.perf_counter()]
        scores = fcn(x)
        times.append(time.perf_counter())
        _, dscores = mf.losses.softmax_cross_entropy(scores, labels, reduction=RECIPES[recipe].reduction)
        times.append(time.perf_counter())
        fcn.backward_parameters(dscores)
        times.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send((batch, np.diff(times).tolist(), peak))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="500x375", help="WIDTHxHEIGHT")
    width, height = map(int, parser.parse_args().size.split("x"))
    from minifcn.training import RECIPES

    print(f"FCN-8s of VGG16, {width} x {height}, seconds of the second step")
    head = f"{'forward':>9}{'loss':>7}{'backward':>10}{'update':>8}"
    print(f"{'alignment':11}{'recipe':13}{'batch':>5}{head}{'peak GB':>9}")
    context = mp.get_context("spawn")
    for alignment in ALIGNMENTS:
        for recipe in RECIPES:
            pipe, end = context.Pipe()
            process = context.Process(target=step, args=(end, alignment, recipe, (height, width)))
            process.start()
            batch, (forward, loss, backward, update), peak = pipe.recv()
            process.join()
            print(
                f"{alignment:11}{recipe:13}{batch:5}{forward:9.2f}{loss:7.2f}{backward:10.2f}{update:8.2f}"
                f"{peak / 1e6:9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
