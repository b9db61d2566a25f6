"""Worker processes of a data loader that keep working when a signal reaches the whole training."""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing import parent_process

from monai.data.utils import worker_init_fn


def start_worker(worker_id: int) -> None:
    """Seeds the random transforms of a worker and lets only the main process end it; a loader's `worker_init_fn`.

    SIGTERM and Ctrl-C often reach all processes at once (torchrun, Slurm). Training then completes the current
    iteration and still needs its workers. Only Linux reports the sender of a signal; elsewhere SIGTERM ends a worker as
    usual.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_when_main_process_asks, daemon=True).start()
    worker_init_fn(worker_id)


if sys.platform == "linux":

    def _exit_when_main_process_asks() -> None:
        """Ends the worker on SIGTERM from the main process, which is how PyTorch and Python end workers."""
        main_process = parent_process()
        assert main_process is not None
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main_process.pid:
            pass
        os._exit(0)
