"""Compares portnn with other frameworks on the same work: one process each, taking turns, for several rounds.

    python benchmarks/compare.py [a a128 b c128 c32 d predict] [--backend gpu] [--rounds 7] [--folder MNIST]
                                 [--portable] [--core-type SkylakeX] [--save FILE.md]

On the CPU "portnn" runs Numba's loops if Numba is installed, and "NumPy alone" does not; on the GPU the second form is
the portable code, run eagerly. All start from the same weights and see the same batches in the same order, in float32.
A framework whose mean error in the first epoch differs from portnn's by more than the workload's tolerance is marked;
one whose library is not installed is skipped. The table has microseconds per step (the median of the rounds but the
first), the time of portnn and of its second form divided by it (the median of the ratios within each round), and the
peak host memory. ``--core-type SkylakeX`` sets OPENBLAS_CORETYPE for portnn's processes: ``python -m portnn info`` says
which value to use.
"""

import argparse
import atexit
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "backends")]

import workloads  # noqa: E402

# The second form of portnn in the tables: without Numba; on the GPU unfused and eager.
SECOND = {"cpu": "portnn, NumPy alone", "gpu": "portnn portable, eager"}


class EndedError(RuntimeError):
    """The process of a framework has ended, of itself or for want of memory."""


class Worker:
    """A framework in its own process."""

    def __init__(
        self, name: str, workload: str, folder: str, backend: str, environment: dict[str, str], home: Path = HERE
    ):
        self.name = name
        command = [sys.executable, str(home / "worker.py"), name, workload, folder, backend]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        atexit.register(self.process.kill)  # a stopped process would never end, and keep our output open
        first = self._read()
        self._pause()
        self.missing, self.about = first.get("missing"), first.get("about", "")

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin
        self._go_on()
        with contextlib.suppress(BrokenPipeError):  # it has ended: there is nothing to read either
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        answer = self._read()
        self._pause()
        return answer

    def _pause(self) -> None:
        """Stops the process while others work: after a call the threads of a BLAS library spin for a while."""
        if hasattr(signal, "SIGSTOP") and self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)

    def _go_on(self) -> None:
        if hasattr(signal, "SIGCONT"):
            self.process.send_signal(signal.SIGCONT)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise EndedError(f"{self.name} ended without an answer, with exit code {code}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def peak(self) -> int | None:
        """Its peak memory in bytes; None if it has ended."""
        with contextlib.suppress(EndedError):
            return int(self.ask(peak=True)["peak"])
        return None

    def close(self) -> None:
        self._go_on()
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        self.process.wait()


def start(names: Any, workload: str, options: Any) -> list[Worker]:
    tuned = {"OPENBLAS_CORETYPE": options.core_type} if options.core_type else {}
    workers = []
    for name in names:
        if options.only and name not in options.only:
            continue
        try:
            worker = Worker(
                name, workload, options.folder or "", options.backend, tuned if name.startswith("portnn") else {}
            )
        except EndedError as error:
            print(f"  {name}: skipped, {error}", flush=True)
            continue
        if worker.missing:
            print(f"  {name}: skipped, {worker.missing}", flush=True)
            worker.close()
        else:
            workers.append(worker)
    return workers


def ask(workers: list[Worker], ended: list[str], **request: Any) -> list[tuple[Worker, dict[str, Any]]]:
    """The answer of each worker; one that has ended is taken off the list, and its end is noted."""
    answers = []
    for worker in list(workers):
        try:
            answers.append((worker, worker.ask(**request)))
        except EndedError as error:
            workers.remove(worker)
            ended.append(f"{error}: it is not in the table")
            print(f"  {ended[-1]}", flush=True)
    return answers


def table(
    title: str, workers: list[Worker], times: dict[str, list[float]], unit: str, notes: dict[str, str], backend: str
) -> str:
    """A table of medians, with the ratios of portnn to each framework."""
    lines = [
        f"### {title}",
        "",
        f"| | {unit} | portnn / it | {SECOND[backend].removeprefix('portnn').strip(' ,')} / it | peak memory | |",
        "|---|---|---|---|---|---|",
    ]
    for worker in workers:
        mine = times[worker.name]
        ratios = [
            f"{statistics.median(a / b for a, b in zip(times[name], mine, strict=True)):.2f}" if name in times else ""
            for name in ("portnn", SECOND[backend])
        ]
        peak = "" if (found := worker.peak()) is None else f"{found / 2**20:.0f} MiB"
        lines.append(
            f"| {worker.name} | {statistics.median(mine):,.0f} | {' | '.join(ratios)} | {peak} | "
            f"{notes.get(worker.name, '')} |"
        )
    return "\n".join([*lines, "", "; ".join(dict.fromkeys(worker.about for worker in workers))])


def train(name: str, options: Any) -> str:
    workload = workloads.WORKLOADS[name]
    on_gpu = options.backend == "gpu"
    names = [n for n in workload.frameworks if not (on_gpu and n in ("article", "scikit-learn"))]
    if len(workload.shape) == 3:
        names.insert(2, "torch channels-last")
    names[1:1] = [SECOND[options.backend]] + ["portnn portable"] * options.portable + ["torch graphs"] * on_gpu
    workers = start(names, name, options)
    if not workers or workers[0].name != "portnn":
        return f"### {workload.title}\n\nportnn itself could not run"
    times: dict[str, list[float]] = {worker.name: [] for worker in workers}
    errors: dict[str, list[float]] = {worker.name: [] for worker in workers}
    ended: list[str] = []
    for k in range(options.rounds + 1):
        for worker, answer in ask(workers, ended, round=k):
            errors[worker.name].append(answer["error"])
            if k:
                times[worker.name].append(answer["seconds"] / answer["steps"] * 1e6)
    if not workers or workers[0].name != "portnn":
        return f"### {workload.title}\n\n{'; '.join(ended)}"
    first = errors[workers[0].name][0]
    notes = {}
    for worker in workers:
        error = errors[worker.name][0]
        apart = abs(error - first) / first
        own = worker.name == "scikit-learn"
        verdict = "own weights and order" if own else "same" if apart <= workload.tolerance else "NOT THE SAME"
        notes[worker.name] = f"error of the first epoch {error:.4f}: {verdict}"
    times = {worker.name: times[worker.name] for worker in workers}
    text = table(workload.title, workers, times, "us per step", notes, options.backend)
    for worker in workers:
        worker.close()
    return "\n\n".join([text, *ended])


def predict(options: Any) -> str:
    workers = start(["portnn", SECOND[options.backend], "torch", "jax"], "b", options)
    parts: list[str] = []
    ended: list[str] = []
    for n, calls in ((1, 500), (128, 200), (10_000, 5)):
        times: dict[str, list[float]] = {worker.name: [] for worker in workers}
        for k in range(options.rounds + 1):
            for worker, answer in ask(workers, ended, predict=n, calls=calls):
                if k:
                    times[worker.name].append(answer["seconds"] / answer["calls"] * 1e6)
        times = {worker.name: times[worker.name] for worker in workers}
        parts.append(
            table(f"(e) predict, {n:,} samples, 784-512-256-10", workers, times, "us per call", {}, options.backend)
        )
    for worker in workers:
        worker.close()
    return "\n\n".join([*parts, *ended])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", default=["a", "b", "c128", "c32", "d", "predict"])
    parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", help="folder with the four MNIST files (default: the bundled sample)")
    parser.add_argument("--core-type", help="OPENBLAS_CORETYPE for portnn")
    parser.add_argument("--only", nargs="+", help="only these frameworks, portnn first")
    parser.add_argument("--portable", action="store_true", help="also portnn without its fast versions")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    if unknown := set(options.work) - {"predict", *workloads.WORKLOADS}:
        parser.error(f"unknown work: {', '.join(sorted(unknown))}")
    core = options.core_type or os.environ.get("OPENBLAS_CORETYPE", "default")
    head = (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; {options.rounds} rounds; "
        f"OPENBLAS_CORETYPE of portnn: {core}"
    )
    print(head, flush=True)
    parts = [head]
    for name in options.work:
        text = predict(options) if name == "predict" else train(name, options)
        print(f"\n{text}", flush=True)
        parts.append(text)
    if options.save:
        options.save.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
