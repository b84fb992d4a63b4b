"""Commands in processes of their own that need not import the libraries again.

Importing jax, TensorFlow and their kin takes six seconds of a core, more than most of
the commands that tests run. A server imports them once, and each command is a fork of
it: with its own arguments, folder, streams, exit code and memory, and with this
project's modules imported anew. Nothing of jax or TensorFlow has run in the server, so
that what they start (threads, devices) is started in the fork.
"""

import gc
import importlib
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile

# What this project's modules import at their top, and TensorFlow.
LIBRARIES = [
    "jax.export",
    "scipy.ndimage",
    "flax.linen",
    "optax",
    "orbax.checkpoint",
    "ml_collections.config_flags",
    "PIL.Image",
    "clu.metrics",
    "clu.metric_writers",
    "tensorflow_datasets",
    "dm_pix",
    "safetensors.numpy",
]


class Commands:
    """Runs `python ARGS...`: of a script, `-m` and a module, or `-c` and a program."""

    def __init__(self):
        self._server = None

    def run(self, args, cwd, env=(), timeout=300) -> subprocess.CompletedProcess:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        with tempfile.TemporaryDirectory() as folder:
            streams = [os.path.join(folder, name) for name in ("out", "err")]
            request = {"args": args, "cwd": str(cwd), "env": dict(env)}
            request |= {"streams": streams, "timeout": timeout}
            print(json.dumps(request), file=self._server.stdin, flush=True)
            code = json.loads(self._server.stdout.readline())
            out, err = (pathlib.Path(path).read_text() for path in streams)
        if code == -signal.SIGALRM:
            raise subprocess.TimeoutExpired(args, timeout, out, err)
        return subprocess.CompletedProcess(args, code, out, err)

    def close(self):
        if self._server is not None:
            self._server.communicate()


def serve():
    """Forks for each request; in a fork, returns the request."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that a fork does not copy what it never changes
    while line := sys.stdin.readline():
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return request
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def run(args, cwd, env, streams, timeout):
    signal.alarm(timeout)
    os.environ.update(env)
    for number, path in enumerate([os.devnull, *streams]):
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    if args[0] == "-m":
        sys.argv, sys.path[0] = args[1:], cwd
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    elif args[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *args[2:]], ""
        exec(args[1], {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = args, os.path.dirname(os.path.abspath(args[0]))
        runpy.run_path(args[0], run_name="__main__")


if __name__ == "__main__" and (request := serve()):
    run(**request)
