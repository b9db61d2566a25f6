"""Counts the multiply-accumulate operations of a training.

    python scripts/benchmark_work.py RUN DATASET OUTPUT

RUN is the output folder of a training, whose config.yaml is read, DATASET its data set and OUTPUT the JSON file to
write: `{"gmac_per_iteration": ..., "iterations": ..., "tmac": ...}`, forward and backward passes of convolutions and
matrix products. 20 iterations of the last epoch, in which all terms of the losses have their weights, are run with new
weights; a method may make an update in every n-th iteration only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from command_line import run_command_line
from monai.bundle import ConfigParser
from monai.engines import Trainer
from sifa.utils.files import write_json
from torch.utils.flop_counter import FlopCounterMode

ITERATIONS = 20


def main(run: str, dataset: str, output: str) -> None:
    """Counts the operations of a training and writes them as JSON.

    Args:
        run: output folder of the training.
        dataset: folder of its data set.
        output: JSON file to write.
    """
    parser = ConfigParser()
    parser.read_config(str(Path(run) / "config.yaml"))
    epochs, length = (int(parser.get_parsed_content(name)) for name in ("epochs", "iterations_per_epoch"))
    parser.update({"dataset_dir": dataset, "iterations_per_epoch": ITERATIONS, "resume": None})
    update: Any = parser.get_parsed_content("train#iteration_update")
    loader: Any = parser.get_parsed_content("train#dataloader")
    trainer = Trainer(parser.get_parsed_content("device"), epochs, loader, iteration_update=update, decollate=False)
    trainer.state.epoch_length = ITERATIONS
    trainer.load_state_dict({"epoch": epochs - 1, "max_epochs": epochs, "epoch_length": ITERATIONS})
    with FlopCounterMode(display=False) as counter:
        trainer.run()
    gmac = counter.get_total_flops() / 2 / ITERATIONS / 1e9
    write_json(
        Path(output),
        {
            "gmac_per_iteration": round(gmac, 4),
            "iterations": epochs * length,
            "tmac": round(gmac * epochs * length / 1e3, 4),
        },
    )


if __name__ == "__main__":
    run_command_line(main)
