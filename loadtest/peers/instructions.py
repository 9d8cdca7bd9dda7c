"""User-space instructions of the benchmark server for one unit of work, counted by callgrind.

They hardly change with what else the machine does, so they show small steps where times do not;
what the kernel does is not in them. Needs valgrind, and what `run.sh` has built.

    python3 loadtest/peers/instructions.py [PROGRAM…]     (default: sockhop's benchmark server)
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import run

# Few clients and no warm-up, so that letting them in counts for next to nothing.
SCENARIOS = {
    "echo with ack": "echo --connections 10 --seconds 6 --warm-up 0",
    "delivery of a broadcast to 100": "broadcast --connections 100 --in-flight 2 --seconds 6 --warm-up 0",
    "polling round": "polling --connections 10 --seconds 6 --warm-up 0",
    "handshake, WebSocket only": "handshake --connections 300",
    "handshake, polling then upgrade": "handshake-upgrade --connections 300",
}


def count(program, command):
    port = run.free_port()
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "callgrind.out"
        server = subprocess.Popen(
            ["env", f"PORT={port}", "valgrind", "--tool=callgrind",
             f"--callgrind-out-file={out}", program],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            run.wait_for(port, server)
            time.sleep(1)
            control = lambda what: subprocess.run(
                ["callgrind_control", what, str(server.pid)],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            control("-z")
            generator = subprocess.run(
                [str(run.RUST / "generator"), *command.split(),
                 "--ports", str(port), "--pids", str(server.pid)],
                check=True, capture_output=True, text=True,
            )
            control("-d")
            dump = next(pathlib.Path(folder).glob("callgrind.out.1*")).read_text()
        finally:
            run.stop([server])
    total = re.search(r"^(?:totals|summary): (\d+)", dump, re.MULTILINE)
    return int(total[1]) / json.loads(generator.stdout)["units"]


def main():
    programs = sys.argv[1:] or run.SERVERS["sockhop"]
    for name, command in SCENARIOS.items():
        counts = "  ".join(f"{count(program, command):>12,.0f}" for program in programs)
        print(f"{name:34}{counts}", flush=True)


if __name__ == "__main__":
    main()
