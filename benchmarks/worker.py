"""One framework in its own process: it reads requests from standard input and answers in lines of JSON."""

import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "backends")]


def main() -> None:
    name, workload_name, folder, backend = sys.argv[1:]
    import frameworks
    import workloads

    import portnn

    workload = replace(workloads.WORKLOADS[workload_name], backend=backend)
    try:
        cls = frameworks.find(name)
    except ImportError as error:
        answer(missing=str(error))
        return
    x, y = workloads.data(workload, Path(folder) if folder else None)
    try:
        framework = cls(workload, x, y)
    except (ImportError, portnn.backend.BackendUnavailableError) as error:
        answer(missing=str(error).splitlines()[0])
        return
    steps = -(-len(x) // workload.batch)
    answer(about=framework.about())
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        if "round" in request:
            error = framework.round(request["round"])
            answer(seconds=time.perf_counter() - start, steps=steps, error=error)
        elif "predict" in request:
            n, calls = request["predict"], request["calls"]
            batch = x[[i % len(x) for i in range(n)]]
            framework.predict(batch)
            start = time.perf_counter()
            for _ in range(calls):
                framework.predict(batch)
            answer(seconds=time.perf_counter() - start, calls=calls)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answer(peak=peak * (1 if sys.platform == "darwin" else 1024))


def answer(**values: object) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
