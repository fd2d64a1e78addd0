"""The world of a script under ``portnn run``: here, and in processes that it starts afresh.

Python's ``multiprocessing`` starts processes by ``fork``, which copies this one, or by ``spawn`` and ``forkserver``,
which run the main module again in a new one, under the name ``__mp_main__``. There
``child`` is run instead: it sets up what ``portnn run`` was told, which stands in an environment variable, and runs the
script.
"""

import atexit
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from portnn.article_modules import defaults, served
from portnn.article_modules import original_weights as drawn_as_the_article

TOLD = "PORTNN_RUN"  # the variable
MAIN = "portnn.cli.child"


@contextmanager
def world(
    folder: str,
    *,
    backend: str | None = None,
    dtype: str | None = None,
    seed: int | None = None,
    full: bool = False,
    original_weights: bool = False,
) -> Iterator[None]:
    """A context with the modules, defaults and random numbers that ``portnn run`` was told to give a script."""
    given: dict[str, Any] = {"backend": backend, "dtype": dtype, "seed": seed}
    given = {name: value for name, value in given.items() if value is not None}
    in_order = original_weights and backend in (None, "cpu")
    if in_order:
        given["kernels"] = "portable"  # whose order of operations is the article's
    with ExitStack() as stack:
        stack.enter_context(served(folder, full=full, in_order=in_order))
        stack.enter_context(defaults(**given))
        if original_weights:
            stack.enter_context(drawn_as_the_article(seed))
        elif seed is not None:
            np.random.seed(seed)  # noqa: NPY002 (the generator of the article's scripts)
        yield


@contextmanager
def told(options: dict[str, Any]) -> Iterator[None]:
    """A context in which new processes that would run the script again run this module, with the same options."""
    from multiprocessing import spawn

    as_python: Any = spawn.get_preparation_data

    def prepared(name: str) -> Any:
        data = as_python(name)
        if "init_main_from_path" in data:
            os.environ[TOLD] = json.dumps({"path": data.pop("init_main_from_path"), **options})
            data["init_main_from_name"] = MAIN
        return data

    spawn.get_preparation_data = prepared
    try:
        yield
    finally:
        spawn.get_preparation_data = as_python
        os.environ.pop(TOLD, None)


def again(main: dict[str, Any]) -> None:
    """Runs the script in a new process, as the module whose names these are."""
    options = json.loads(os.environ[TOLD])
    path = options.pop("path")
    with open(path, "rb") as file:
        code = file.read()
    stack = ExitStack()
    atexit.register(stack.close)
    stack.enter_context(told(options))  # for processes that this one starts
    stack.enter_context(world(**options))
    main["__file__"] = path
    exec(compile(code, path, "exec", dont_inherit=True), main)
