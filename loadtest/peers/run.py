"""Runs every server through every scenario, interleaved, and writes the tables and charts.

`run.sh` builds what this runs. Round by round and scenario by scenario the servers take turns, so
that a busy minute of the machine hits all of them. Servers are pinned to the first core, the
generator and Redis to the second.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUST = HERE / "rust/target/release"

SERVERS = {
    "sockhop": [str(ROOT / "target/release/examples/bench")],
    "socketioxide": [str(RUST / "oxide")],
    "socketioxide, axum": ["env", "FRONT=axum", str(RUST / "oxide")],
    "socket.io": ["node", str(HERE / "node/server.js")],
    "python-socketio": [str(HERE / "python/.venv/bin/python"), str(HERE / "python/server.py")],
    "floor": [str(RUST / "floor")],
    "floor, coalescing": ["env", "COALESCE=1", str(RUST / "floor")],
}
FLOORS = ["floor", "floor, coalescing"]


def scenario(key, title, unit, command, nodes=1, bar=None, floors=FLOORS, series=None):
    return {
        "key": key,
        "title": title,
        "unit": unit,
        "command": command.split(),
        "nodes": nodes,
        "bar": bar,
        "floors": floors,
        "series": series,
    }


# A bar is what is measured against (`floor`, `socketioxide` or an absolute value), and how much.
TABLE = [
    scenario("broadcast-1000", "broadcast to 1,000, two in flight", "cpu_us",
             "broadcast --connections 1000 --in-flight 2", bar=("floor", 1.3)),
    scenario("broadcast-1000-16", "the same, 16 in flight", "cpu_us",
             "broadcast --connections 1000 --in-flight 16", bar=("absolute", 1.0)),
    scenario("broadcast-5000", "broadcast to 5,000, two in flight", "cpu_us",
             "broadcast --connections 5000 --in-flight 2", bar=("floor", 1.3)),
    scenario("echo", "echo with ack, 100 clients", "cpu_us",
             "echo --connections 100", bar=("floor", 1.3)),
    scenario("handshake", "handshake, WebSocket only", "cpu_us",
             "handshake --connections 2000", bar=("socketioxide", 0.7)),
    scenario("handshake-upgrade", "handshake, polling then upgrade", "cpu_us",
             "handshake-upgrade --connections 1000", bar=("socketioxide", 0.7)),
    scenario("polling", "polling round, 100 clients", "cpu_us",
             "polling --connections 100", bar=("socketioxide", 0.7)),
    scenario("idle-2000", "idle connection, 2,000", "bytes",
             "idle --connections 2000 --seconds 0", bar=("absolute", 4096), floors=FLOORS[:1]),
    scenario("idle-10000", "idle connection, 10,000", "bytes",
             "idle --connections 10000 --seconds 0", bar=("absolute", 4096), floors=FLOORS[:1]),
    scenario("redis-1000", "two nodes, 500 + 500 receivers, two in flight", "cpu_us",
             "broadcast --connections 1000 --in-flight 2", nodes=2,
             bar=("socketioxide", 0.75), floors=[]),
    scenario("redis-20", "two nodes, 10 + 10 receivers, 64 in flight", "cpu_us",
             "broadcast --connections 20 --in-flight 64", nodes=2,
             bar=("socketioxide", 0.75), floors=[]),
]

# What grows is shown for sockhop and the fastest of the others.
SERIES_SERVERS = ["sockhop", "socketioxide"]

SERIES = [
    scenario(f"receivers-{count}", count, "cpu_us",
             f"broadcast --connections {count} --in-flight 2", series="receivers")
    for count in (100, 1000, 5000, 15000)
] + [
    # One at a time: with more, one node writes two messages at once, which many on one core cannot.
    scenario(f"nodes-{count}", count, "cpu_us",
             "broadcast --connections 1000 --in-flight 1", nodes=count, floors=[], series="nodes")
    for count in (1, 2, 4, 8)
] + [
    scenario(f"idle-{count}", count, "bytes", f"idle --connections {count} --seconds 0",
             floors=[], series="idle")
    for count in (2000, 6000, 10000, 18000)
] + [
    scenario("starve", "echo while a room of 15,000 is broadcast to", "p99_ms",
             "starve --connections 15000 --seconds 5", floors=[], series="starve"),
    scenario("idle-cpu", "CPU of 15,000 idle connections", "idle_cpu_percent",
             "idle --connections 15000 --seconds 30", floors=[], series="idle-cpu"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"the server on port {port} did not come up")


def start(command, core, port, environment=None):
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        env={**os.environ, "PORT": str(port), **(environment or {})},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(port, process)
    except RuntimeError:
        stop([process])
        raise
    return process


def stop(processes):
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def busy_seconds():
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def measure(server, chosen, redis_port):
    """One run of one scenario against one server, as the generator tells it."""
    environment = {"REDIS": f"redis://127.0.0.1:{redis_port}/"} if chosen["nodes"] > 1 else {}
    ports = [free_port() for _ in range(chosen["nodes"])]
    processes = []
    try:
        for port in ports:
            processes.append(start(SERVERS[server], 0, port, environment))
        command = [
            "taskset", "-c", "1", str(RUST / "generator"), *chosen["command"],
            "--ports", ",".join(map(str, ports)),
            "--pids", ",".join(str(process.pid) for process in processes),
        ]
        began, busy = time.monotonic(), busy_seconds()
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        result = json.loads(done.stdout)
        result["machine_busy"] = (busy_seconds() - busy) / (time.monotonic() - began)
        return result
    finally:
        stop(processes)


def run(chosen, servers, rounds):
    redis_port = free_port()
    redis = None
    if any(it["nodes"] > 1 for it in chosen):
        redis = start(
            ["redis-server", "--port", str(redis_port), "--save", "", "--appendonly", "no"],
            1, redis_port,
        )
    results = []
    try:
        for number in range(rounds):
            for it in chosen:
                for server in servers:
                    if server in FLOORS and server not in it["floors"]:
                        continue
                    try:
                        result = measure(server, it, redis_port)
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        result = {"error": str(error)}
                    result |= {"round": number, "scenario": it["key"], "server": server}
                    results.append(result)
                    shown = result.get(it["unit"], result.get("error"))
                    print(f"{number + 1} {it['key']:20} {server:18} {shown}", flush=True)
    finally:
        if redis:
            stop([redis])
    return results


def merged(kept, results):
    """What was measured last, with the scenarios of `results` in the place of older ones."""
    again = {it["scenario"] for it in results}
    older = json.loads(kept.read_text()) if kept.exists() else []
    results = [it for it in older if it["scenario"] not in again] + results
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(results, indent=1))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="scenarios, by the beginning of their key; others stay as last measured")
    parser.add_argument("--servers", default="", help="of " + ", ".join(SERVERS))
    parser.add_argument("--also", action="append", default=[], metavar="NAME=PROGRAM",
                        help="another build of sockhop to compare with; not written")
    parser.add_argument("--series", action="store_true", help="the series instead of the table")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    parser.add_argument("--again", action="store_true", help="only write what was measured last")
    options = parser.parse_args()

    for another in options.also:
        label, program = another.split("=", 1)
        SERVERS[label] = [program]

    name = "series" if options.series else "table"
    kept = HERE / "results" / f"{name}.json"
    known = SERIES if options.series else TABLE
    everyone = SERIES_SERVERS if options.series else list(SERVERS)
    if options.again:
        results = json.loads(kept.read_text())
    else:
        starts = tuple(options.only.split(","))
        chosen = [it for it in known if it["key"].startswith(starts)]
        servers = options.servers.split(";") if options.servers else everyone
        results = run(chosen, servers, options.rounds)
        if not (options.also or options.servers):
            results = merged(kept, results)
    text = report.text(name, known, everyone, FLOORS, results)
    print(text)
    if options.write:
        report.write(ROOT / "docs", name, text, known, everyone, results)


if __name__ == "__main__":
    sys.exit(main())
