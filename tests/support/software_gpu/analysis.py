"""What can be read off a kernel's source: whether its threads wait for each other, and whether their number matters."""

import re

SYNCHRONIZES = re.compile(
    r"\b(__sync\w*|__shfl\w*|__ballot\w*|__any_\w*|__all_\w*|software_dynamic_shared|__shared__)\b"
)
FUNCTION = re.compile(r"(\w+)\s*\([^;{}]*\)\s*\{")
# A loop over 0 .. n - 1 that is divided among all threads: with one thread it does the same work.
DIVIDED = re.compile(
    r"CUPY_FOR\s*\(|for\s*\(\s*[\w ]+=[^;]*blockIdx\.x[^;]*threadIdx\.x[^;]*;[^;]*;[^;)]*\+=[^;]*gridDim\.x[^;)]*\)"
)
FIRST_ONLY = re.compile(r"if\s*\(\s*blockIdx\.x\s*\|\|\s*(?:blockIdx\.y\s*\|\|\s*)?threadIdx\.x\s*\)\s*return\s*;")
DEPENDS = re.compile(r"\b(threadIdx|blockDim|gridDim)\b|\bblockIdx\.x\b|\batomic[A-Z]\w*\b")


def functions(source):
    """The bodies of the functions of a source, by their names."""
    source = re.sub(r"^\s*#.*$", "", source, flags=re.MULTILINE)
    found = {}
    for head in FUNCTION.finditer(source):
        depth, end = 1, head.end()
        while depth and end < len(source):
            depth += {"{": 1, "}": -1}.get(source[end], 0)
            end += 1
        if head.group(1) not in ("if", "for", "while", "switch"):
            found.setdefault(head.group(1), source[head.end() : end])
    return found


def whole(name, bodies):
    """The body of a function and of all functions that it calls."""
    text, seen, ahead = "", set(), [name]
    while ahead:
        one = ahead.pop()
        if one in seen or one not in bodies:
            continue
        seen.add(one)
        text += bodies[one]
        ahead += re.findall(r"\b([A-Za-z_]\w*)\s*\(", bodies[one])
    return text


def about(name, bodies):
    """(whether the threads of a block wait for each other, whether one thread can do the work of all)."""
    body = whole(name, bodies)
    waits = SYNCHRONIZES.search(body) is not None
    rest = FIRST_ONLY.sub("", DIVIDED.sub("", body))
    return waits, bool(body) and not waits and DEPENDS.search(rest) is None
