"""Times an iteration of training by schedule and precision, side by side: work, seconds, wait for data, peak of memory.

    python scripts/benchmark_training.py --width 1 --size 256 --batch 1 --iterations 3 [--json FILE] [--document FILE]

Schedules: `naive`, as the authors run it: each of the six updates computes its whole graph again, but D_t and D_s get
the fakes that the calls for G_t and U have made; `sequential`: the same updates in the same order with exact reuse;
`simultaneous`: all updates from one graph. Each row is a process of its own, so that its peak is its own; the rounds
take turns, so that what else the machine does meets all rows alike. Networks, losses, optimizers and augmentation are
those of `train.yaml`, the slices are generated. `--document` replaces the table of this setting in a
document.
"""

from __future__ import annotations

import platform
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from benchmark_options import choose
from command_line import run_command_line
from document_tables import put_text
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.engines import Trainer
from rich.console import Console
from rich.table import Table
from sifa.adaptation.sifa import SIFA
from sifa.data.unpaired_slices import UnpairedSampler, UnpairedSlices
from sifa.data.worker_init import start_worker
from sifa.fingerprint.fingerprint import NetworkSize
from sifa.training.iteration_update import Batch, IterationUpdate
from sifa.utils.files import write_json
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]

SCHEDULES = ("naive", "sequential", "simultaneous")
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
CLASSES = 5
SLICES = 16  # of each domain
GIB = 2**30


class NaiveSIFA:
    """SIFA's six updates, each of which computes its own images; those of G_t and U also give D_t and D_s their fakes.

    Args:
        sifa: the method whose updates, networks and optimizers are used.
    """

    name = "sifa_naive"

    def __init__(self, sifa: SIFA) -> None:
        self.sifa = sifa
        self.networks = sifa.networks
        self.frozen = sifa.frozen
        self.optimizers = sifa.optimizers
        self.shared_state = sifa.shared_state
        self.process_state = sifa.process_state

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Runs the six updates; see `sifa.training.iteration_update.Method`."""
        sifa, forward, target = self.sifa, self.sifa.forward, batch.target_image
        with torch.no_grad():
            target_latent = forward.encoder(target)  # the pass that updates the running statistics
            fake_source, target_logits = forward.decoder(target_latent, target), forward.classifier(target_latent)
        with _first_output(self.networks["target_generator"]) as fakes:
            output = sifa.update_target_generator(batch, target_logits, fake_source, epoch)
        output |= sifa.update_target_discriminator(batch, fakes[0])
        with torch.no_grad():
            fake_target = forward.translate_source(batch)
        with forward.running_statistics_held():
            target_latent = forward.encoder(target)
            fake_source, target_logits = forward.decoder(target_latent, target), forward.classifier(target_latent)
        output |= sifa.update_segmenter(batch, fake_target, target_logits, fake_source, epoch)
        fake_target, fake_latent = self._translate(batch)
        target_latent = self._latent(target)
        with torch.no_grad():
            target_logits = forward.classifier(target_latent)
        with _first_output(self.networks["source_decoder"]) as fakes:
            output |= sifa.update_source_decoder(batch, fake_target, fake_latent, target_latent, target_logits, epoch)
        fake_target, fake_latent = self._translate(batch)
        with torch.no_grad():
            reconstructed_source = forward.decoder(fake_latent, fake_target)
        output |= sifa.update_source_discriminator(batch, reconstructed_source, fakes[0])
        with torch.no_grad():
            logits = forward.classifier(self._translate(batch)[1]), forward.classifier(self._latent(target))
        return output | sifa.update_prediction_discriminator(*logits)

    @torch.no_grad()
    def _translate(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns G_t(x_s) and E of it."""
        fake_target = self.sifa.forward.translate_source(batch)
        return fake_target, self._latent(fake_target)

    @torch.no_grad()
    def _latent(self, image: torch.Tensor) -> torch.Tensor:
        with self.sifa.forward.running_statistics_held():
            return self.sifa.forward.encoder(image)


@contextmanager
def _first_output(network: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects, without their graphs, what `network` puts out within the context."""
    outputs: list[torch.Tensor] = []
    hook = network.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach()))
    try:
        yield outputs
    finally:
        hook.remove()


def build_update(parser: ConfigParser, schedule: str) -> IterationUpdate:
    """Returns the iteration update of a schedule with the networks, optimizers and losses of the configs."""
    update = parser.get_parsed_content("train#iteration_update")
    assert isinstance(update, IterationUpdate)
    if schedule != "naive":
        return update
    assert isinstance(update.method, SIFA)
    return IterationUpdate(NaiveSIFA(update.method), update.precision)


def read_configs(width: float, size: int, overlays: Sequence[str] = ()) -> ConfigParser:
    """Returns the configs of a training on generated slices."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / "bundle" / "configs" / name) for name in ("train.yaml", *overlays)])
    network = NetworkSize(in_channels=1, out_channels=CLASSES, width=width)
    fingerprint = SimpleNamespace(network=network, matched_in_plane=False, slice_size=(size, size))
    parser.update({"fingerprint": fingerprint, "width": width, "slice_size": [size, size]})
    return parser


def build_loader(parser: ConfigParser, size: int, batch: int, iterations: int, workers: int = 0) -> DataLoader:
    """Returns generated slices, augmented as `train.yaml` does it, in batches; without workers, this process draws."""

    def generate(item: Any) -> dict[str, torch.Tensor]:
        image = torch.rand(1, size, size, SLICES, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return {"image": image, "label": ((image + 1) / 2 * CLASSES).int().clamp(max=CLASSES - 1)}

    item = [{"image": "generated", "label": "generated"}]
    slices = UnpairedSlices(item, generate, item, generate, parser.get_parsed_content("train#augmentation"))
    sampler = UnpairedSampler(slices, batch, iterations)
    start: Any = start_worker
    return DataLoader(
        slices, batch, sampler=sampler, drop_last=True, num_workers=workers, worker_init_fn=start if workers else None
    )


def measure(schedule: str, precision: str, width: float, size: int, batch: int, iterations: int) -> dict[str, Any]:
    """Runs one row in this process: an iteration that counts and warms up, then those that are timed."""
    torch.manual_seed(0)
    overlays = ["simultaneous.yaml"] if schedule == "simultaneous" else []
    parser = read_configs(width, size, overlays)
    parser.update({"precision": precision})
    parser.update({"loss_weights#segmenter#prediction_adversarial": 0.1})  # as from the eighth epoch on
    update, device = build_update(parser, schedule), parser.get_parsed_content("device")

    def run(count: int, timed: bool) -> tuple[list[float], list[float]]:
        trainer = Trainer(device, 1, build_loader(parser, size, batch, count), iteration_update=update, decollate=False)
        clock = Clock(device)
        if timed:
            clock.attach(trainer)
        trainer.run()
        return clock.iterations, clock.waits

    with FlopCounterMode(display=False) as counter:
        run(1, timed=False)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds, waits = run(iterations, timed=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return {
        "seconds": seconds,
        "waits": waits,
        "gmac_per_slice": counter.get_total_flops() / 2 / batch / 1e9,
        "peak_gib": peak / GIB,
    }


class Clock:
    """Seconds of each iteration without its batch, and seconds until each batch was there; the device has finished."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.iterations: list[float] = []
        self.waits: list[float] = []
        self.since = 0.0

    def attach(self, engine: Engine) -> None:
        """Follows `engine`."""
        for started in (Events.GET_BATCH_STARTED, Events.ITERATION_STARTED):
            engine.add_event_handler(started, self.start)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, lambda: self.waits.append(self.passed()))
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: self.iterations.append(self.passed()))

    def start(self) -> None:
        """Sets the clock to zero."""
        self.since = time.perf_counter()

    def passed(self) -> float:
        """Returns the seconds since then."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - self.since


def summarize(measured: dict[tuple[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Returns a row for each schedule and precision: medians over all timed iterations of all rounds."""
    rows = []
    for (schedule, precision), rounds in measured.items():
        seconds = statistics.median(value for one in rounds for value in one["seconds"])
        wait = statistics.median(value for one in rounds for value in one["waits"])
        rows.append(
            {
                "schedule": schedule,
                "precision": precision,
                "seconds_per_iteration": round(seconds, 4),
                "gmac_per_slice": round(rounds[0]["gmac_per_slice"], 1),
                "peak_gib": round(max(one["peak_gib"] for one in rounds), 2),
                "data_seconds": round(wait, 4),
                "data_percent": round(100 * wait / (seconds + wait), 1),
            }
        )
    naive = {row["precision"]: row["seconds_per_iteration"] for row in rows if row["schedule"] == "naive"}
    full = {row["schedule"]: row["seconds_per_iteration"] for row in rows if row["precision"] == "fp32"}
    for row in rows:
        row["of_naive"] = _ratio(row["seconds_per_iteration"], naive.get(row["precision"]))
        row["of_fp32"] = _ratio(row["seconds_per_iteration"], full.get(row["schedule"]))
    return rows


def _ratio(seconds: float, other: float | None) -> float | None:
    return None if other is None else round(seconds / other, 2)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a table of a document."""
    head = "| schedule | precision | G MAC a slice | seconds | of naive | of fp32 | peak (GiB) | data wait (%) |"
    lines = [head, "|---|---|---:|---:|---:|---:|---:|---:|"]
    columns = ("schedule", "precision", "gmac_per_slice", "seconds_per_iteration", "of_naive", "of_fp32", "peak_gib")
    for row in rows:
        cells = ["" if row[name] is None else str(row[name]) for name in (*columns, "data_percent")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    width: float = 1,
    size: int = 256,
    batch: int = 1,
    iterations: int = 3,
    rounds: int = 1,
    schedules: Sequence[str] = SCHEDULES,
    precisions: Sequence[str] = ("fp32", "bf16"),
    json: str | None = None,
    document: str | None = None,
) -> None:
    """Prints the table.

    Args:
        width: of all networks; 1 is the paper's.
        size: rows and columns of a slice, a multiple of 8.
        batch: slices of each domain in an iteration.
        iterations: timed iterations of a row in a round; one more, which is counted, goes before them.
        rounds: how often all rows take their turn.
        schedules: any of naive, sequential, simultaneous.
        precisions: any of fp32, bf16 and, on a GPU, fp16.
        json: a file for the rows.
        document: a document whose table of this setting is replaced.
    """
    chosen_schedules = choose("schedules", schedules, SCHEDULES)
    chosen_precisions = choose("precisions", precisions, tuple(PRECISIONS))
    measured: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for precision in chosen_precisions:
            for schedule in chosen_schedules:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    arguments = (schedule, PRECISIONS[precision], width, size, batch, iterations)
                    row = process.submit(measure, *arguments).result()
                measured.setdefault((schedule, precision), []).append(row)
    rows = summarize(measured)
    setting = f"width={width:g} size={size} batch={batch}"
    show(rows, setting)
    if json:
        machine = {"processor": platform.machine(), "capability": torch.backends.cpu.get_cpu_capability()}
        content = {"setting": {"width": width, "size": size, "batch": batch}, "threads": torch.get_num_threads()}
        write_json(Path(json), {**machine, **content, "rows": rows})
    if document:
        put_text(Path(document), f"benchmark_training {setting}", markdown(rows))


def show(rows: Sequence[dict[str, Any]], setting: str) -> None:
    """Prints the rows."""
    table = Table(title=f"{setting}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "))
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=150).print(table)


if __name__ == "__main__":
    run_command_line(main)
