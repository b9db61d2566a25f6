"""Worker processes of a loader, which signals to the whole training leave at work."""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing import parent_process

from monai.data.utils import worker_init_fn


def start_worker(worker_id: int) -> None:
    """`worker_init_fn` of a loader: seeds random transforms, and leaves it to the main process to end the worker.

    SIGTERM and Ctrl-C often reach all processes at once (torchrun, Slurm), and training then completes an iteration,
    for which it needs its workers. Only Linux tells who sent a signal; elsewhere SIGTERM ends a worker as always.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_the_main_process, daemon=True).start()
    worker_init_fn(worker_id)


if sys.platform == "linux":

    def _obey_the_main_process() -> None:
        """Ends the worker at once when the main process says so, as PyTorch does: it is how Python ends workers."""
        main_process = parent_process()
        assert main_process is not None
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main_process.pid:
            pass
        os._exit(0)
