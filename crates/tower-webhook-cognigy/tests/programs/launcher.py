"""Runs a program of the documents from its own text.

    launcher.py serve PROGRAM MEND...           its web application, on a free port of loopback
    launcher.py worker PROGRAM MEND...          its Celery worker
    launcher.py main PROGRAM MEND...            what it does when it is started
    launcher.py script PROGRAM SCRIPT MEND...   our script in the program's names; `answer(value)` tells the test
    launcher.py redis                           a server that speaks the protocol of Redis, for Celery

The text is read from the folder TOWER_WEBHOOK_DOCUMENTS, by the manifest beside this file. What the program waits for
with `time.sleep` or `asyncio.sleep` is written down instead. Ends when its standard input does.
"""

import ast
import asyncio
import hashlib
import inspect
import json
import os
import pathlib
import socket
import sys
import threading
import types
from urllib.parse import urlsplit

from manifest import PROGRAMS

# Standard output is for the test; what programs write to it goes to standard error.
OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def say(line):
    print(line, file=OUT, flush=True)


def end_with_the_test():
    while os.read(0, 1):
        pass
    os._exit(0)


def text_of(name, mends):
    """The text of a program: its lines, their indentation where the document lost it, and the mends that are asked for."""
    program = PROGRAMS[name]
    folder = pathlib.Path(os.environ["TOWER_WEBHOOK_DOCUMENTS"])
    [document] = folder.glob(program["document"] + "_*.txt")
    lines = document.read_text("utf-8").split("\n")
    text = []
    for part in program["parts"]:
        first, last = part["lines"]
        piece = lines[first - 1 : last]
        digest = hashlib.sha256("\n".join(piece).encode()).hexdigest()
        if digest != part["sha256"]:
            sys.exit(f"{document}: lines {first} to {last} are not those that the manifest describes: {digest}")
        if "indent" in part:
            assert len(part["indent"]) == len(piece), f"{name}: an indentation for each line"
            piece = ["    " * int(level) + line for level, line in zip(part["indent"], piece)]
        text += piece
    text = "\n".join(text) + "\n"
    known = program.get("mends", {})
    assert set(mends) <= set(known), f"{name}: {mends}"
    for mend, changes in known.items():
        if mend == "to run" or mend in mends:
            for before, after in changes:
                assert text.count(before) == 1, f"{name}: {mend}: {before!r} is there {text.count(before)} times"
                text = text.replace(before, after)
    return text


class Instead:
    """A module with some of its functions replaced."""

    def __init__(self, module, **replaced):
        self.__dict__.update(replaced, _module=module)

    def __getattr__(self, name):
        return getattr(self._module, name)


class Program:
    def __init__(self, name, mends, main=False):
        self.slept, self.compared = [], []
        code = compile(text_of(name, mends), name, "exec")
        module = types.ModuleType("__main__" if main else name)
        sys.modules[module.__name__] = module
        self.names = vars(module)
        if main:
            # What is started does its work before it can be given other modules.
            import time

            time.sleep = self.sleep
        exec(code, self.names)
        if "time" in self.names:
            self.names["time"] = Instead(self.names["time"], sleep=self.sleep)
        if "asyncio" in self.names:
            self.names["asyncio"] = Instead(asyncio, sleep=self.sleep_async)
        if "hmac" in self.names:
            self.names["hmac"] = Instead(self.names["hmac"], compare_digest=self.compare)

    def sleep(self, seconds):
        self.slept.append(seconds)
        os.write(2, f"slept {seconds}\n".encode())

    async def sleep_async(self, seconds):
        self.sleep(seconds)
        await asyncio.sleep(0)

    def compare(self, one, other):
        import hmac

        self.compared.append([one, other])
        return hmac.compare_digest(one, other)

    def serve(self):
        import uvicorn

        listener = socket.create_server(("127.0.0.1", 0))
        say(f"listening on http://127.0.0.1:{listener.getsockname()[1]}")
        uvicorn.Server(uvicorn.Config(self.names["app"], log_level="warning")).run(sockets=[listener])

    def worker(self):
        from celery.signals import worker_ready

        broker = urlsplit(os.environ["CELERY_BROKER_URL"]).netloc
        worker_ready.connect(lambda **_: say(f"listening on http://{broker}"), weak=False)
        self.names["celery_app"].Worker(
            pool="solo",
            queues=["cognigy_events"],
            loglevel="INFO",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        ).start()

    def script(self, script):
        self.names.update(
            answer=lambda value: say(json.dumps(value)),
            slept=self.slept,
            compared=self.compared,
        )
        code = compile(script, "script", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        done = eval(code, self.names)
        if inspect.iscoroutine(done):
            asyncio.run(done)


def redis():
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    say(f"listening on http://127.0.0.1:{server.server_address[1]}")
    server.serve_forever()


def main():
    threading.Thread(target=end_with_the_test, daemon=True).start()
    match sys.argv[1:]:
        case ["serve", name, *mends]:
            Program(name, mends).serve()
        case ["worker", name, *mends]:
            Program(name, mends).worker()
        case ["main", name, *mends]:
            Program(name, mends, main=True)
        case ["script", name, script, *mends]:
            Program(name, mends).script(script)
        case ["redis"]:
            redis()
        case other:
            sys.exit(f"launcher.py: {other}\n{__doc__}")


main()
