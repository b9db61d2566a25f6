"""Pictures of slices and network outputs during training, as files and in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ignite.engine import Engine, Events
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from sifa.handlers.engine_output import samples
from sifa.reports.slice_grid import draw_grid, list_pictures, picture_path, to_pixels
from sifa.utils.distributed import is_main_process
from sifa.utils.errors import InputError
from sifa.utils.files import temporary_beside, writing


class ImageGrid:
    """Draws the first slices of the batch every `interval` iterations and in the last one.

    There is a row per slice. Columns: source, fake target, reconstructed source, target, fake source, reconstructed
    target, and the prediction over its image. Images that the method does not produce have no column.

    Files: `<output_dir>/images/iteration_<number>.png`. TensorBoard's event file lies beside them, apart from that of
    the scalars: of two growing files in one folder, TensorBoard follows the later one only. A resumed training
    replaces the pictures of later iterations.

    Args:
        output_dir: the run's folder.
        structures: names of the structures by value, for the legend; None: no legend.
        interval: number of iterations between two pictures.
        rows: number of slices to draw.

    Raises:
        InputError: when `interval` or `rows` is less than 1.
    """

    def __init__(
        self, output_dir: str | Path, structures: Mapping[int, str] | None = None, interval: int = 500, rows: int = 4
    ) -> None:
        if interval < 1 or rows < 1:
            raise InputError(f"interval of ImageGrid is {interval}, rows is {rows}: give numbers from 1.")
        self.folder = Path(output_dir) / "images"
        self.structures = structures or {}
        self.interval = interval
        self.rows = rows
        self.writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Draws while `engine` runs, on the main process."""
        if not is_main_process():
            return
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(event_filter=self.is_due), self.draw)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def open(self, engine: Engine) -> None:
        """Removes pictures of later iterations and opens an event file.

        Raises:
            InputError: when the folder cannot be written, as in `draw`.
        """
        done = engine.state.iteration
        with writing(self.folder):
            for iteration, path in list_pictures(self.folder).items():
                if iteration > done:
                    path.unlink()
            self.writer = SummaryWriter(str(self.folder), purge_step=done + 1)

    def is_due(self, engine: Engine, iteration: int) -> bool:
        """Returns whether to draw at an iteration."""
        last = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)
        return iteration % self.interval == 0 or iteration == last

    def draw(self, engine: Engine) -> None:
        """Draws this iteration."""
        assert self.writer is not None  # opened when the run started
        epoch, iteration = engine.state.epoch, engine.state.iteration
        pixels = to_pixels(
            draw_grid(samples(engine, self.rows), f"epoch {epoch}, iteration {iteration}", self.structures)
        )
        path = picture_path(self.folder, iteration)
        with writing(path):
            with temporary_beside(path) as temporary:
                Image.fromarray(pixels).save(temporary, format="PNG")
            self.writer.add_image("images", pixels, iteration, dataformats="HWC")
            self.writer.flush()

    def close(self, engine: Engine) -> None:
        """Closes the event file."""
        if self.writer is not None:
            self.writer.close()
