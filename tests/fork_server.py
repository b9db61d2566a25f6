"""Runs Python command lines in forks of a process that has imported PyTorch and MONAI, which saves 6 s a command.

`run_forked` starts the server at its first call. The server reads a request from each line of standard input (JSON:
`arguments`, `cwd`, `environment`, `output`), runs `python <arguments>` in a fork whose streams go to the files
`<output>.out` and `<output>.err`, and answers with two lines: the process id, then the exit status. The package `sifa`
is not imported before the fork: each command finds its own.
"""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.util
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any

PRELOADED = (
    "matplotlib.backends.backend_agg",
    "monai.bundle",
    "monai.engines",
    "monai.handlers",
    "nibabel",
    "numba",
    "pydicom",
    "rich.table",
    "scipy.ndimage",
    "skimage.measure",
    "torch.utils.tensorboard",
)


TIMEOUT_S = 600


def run_forked(
    arguments: Sequence[str], cwd: Path | str, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs `python <arguments>` in a fork of the server and returns what `subprocess.run` would."""
    server = _start_server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/stream"
        request = {"arguments": arguments, "cwd": str(cwd), "environment": dict(environment), "output": output}
        server.stdin.write(f"{json.dumps(request)}\n")
        server.stdin.flush()
        timer = Timer(TIMEOUT_S, os.kill, (int(server.stdout.readline()), signal.SIGKILL))
        timer.start()
        status = int(server.stdout.readline())
        timer.cancel()
        streams = (Path(f"{output}{ending}").read_text(encoding="utf-8") for ending in (".out", ".err"))
        return subprocess.CompletedProcess([sys.executable, *arguments], status, *streams)


@functools.cache
def _start_server() -> subprocess.Popen[str]:
    """Starts the server of this process, which ends with it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )


def serve() -> dict[str, Any] | None:
    """Answers requests; returns one in each fork, and None in the server when there are no more."""
    for line in iter(sys.stdin.readline, ""):
        process = os.fork()
        if process == 0:
            return dict(json.loads(line))
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
    return None


def become(request: dict[str, Any]) -> None:
    """Runs the command line of a request in this process, as a new interpreter would."""
    for stream, path in ((0, os.devnull), (1, f"{request['output']}.out"), (2, f"{request['output']}.err")):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), stream)
    tempfile.tempdir = None  # which depends on the environment
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    first, *rest = request["arguments"]
    if first == "-m":
        module, *rest = rest
        sys.argv, sys.path[0] = [module, *rest], os.getcwd()
        main = importlib.util.find_spec(f"{module}.__main__")
        sys.argv[0] = str(main.origin) if main else module  # which exception hooks still see, unlike that of `runpy`
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *rest], str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    work = serve()
    if work is not None:
        become(work)
