"""Which of the arrays of a PyTorch state dict belongs where: by name or, where names differ, by order and shape.

It is decided from names and shapes alone, before any array is read.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any, NamedTuple

from portnn._typing import Shape

COUNT = "num_batches_tracked"  # of batch normalization: beside the others, since older state dicts lack it
LEAVES = ("weight", "bias", "running_mean", "running_var")
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel, and torch.compile, put in front of every name
BESIDE = ("downsample", "shortcut", "skip", "identity")  # what the path beside a block's layers is called
SHOWN = 100  # faults listed in one error


class Module(NamedTuple):
    """A module's name, such as ``layers.0.conv``, and the shapes of its arrays by their last name."""

    name: str
    shapes: dict[str, Shape]

    @property
    def signature(self) -> tuple[tuple[str, Shape], ...]:
        return tuple(sorted(self.shapes.items()))

    def path(self, leaf: str) -> str:
        return f"{self.name}.{leaf}" if self.name else leaf

    @property
    def numbers(self) -> list[int]:
        return _split(self.name)[1]

    @property
    def words(self) -> str:
        """The name without its numbers; nothing, if it consists of numbers alone."""
        return _split(self.name)[0] if re.search(r"[^\d.]", self.name) else ""


def _split(name: str) -> tuple[str, list[int]]:
    """A name without its numbers, and these."""
    return re.sub(r"\d+", "#", name), [int(n) for n in re.findall(r"\d{1,18}", name)]


Pairing = dict[str, str]  # from the network's names to the given ones


def pair(
    expected: Mapping[str, Shape],
    given: Mapping[str, Shape],
    ordered: bool | None,
    branches: Collection[str] = (),
) -> Pairing:
    """For each array that the network expects, which one of those given it is; ValueError if that is not clear.

    ``expected`` are names and shapes in the network's order, ``given`` those of a state dict; ``ordered`` says whether
    they come in the order of the module, too, as in a dict that PyTorch made: None, if they might have been sorted
    since. ``branches`` are the paths of branches that run beside others.
    """
    original = _without_wrappers(given)
    shapes = {name: given[whole] for name, whole in original.items()}
    counts = {name for name in shapes if name.rpartition(".")[2] == COUNT}
    arrays = {name: shape for name, shape in shapes.items() if name not in counts}
    wanted = {name: shape for name, shape in expected.items() if name.rpartition(".")[2] != COUNT}
    by_name = {name: name for name in wanted}
    pairs = by_name if wanted.keys() == arrays.keys() else _by_order(wanted, arrays, ordered, branches)
    likely = _likely(wanted, arrays, ordered) if pairs is None else pairs
    with_counts = likely | _counts(expected, likely, counts)
    faults = _faults(wanted, arrays, likely)
    faults += [f"{name} belongs to no layer" for name in shapes if name in counts.difference(with_counts.values())]
    if faults:
        raise ValueError(_listed(faults))
    return {name: original[found] for name, found in with_counts.items()}


def _without_wrappers(given: Mapping[str, Shape]) -> dict[str, str]:
    """From names without what stands in front of all of them to the whole names."""
    names = {name: name for name in given}
    while names and (start := next((w for w in WRAPPERS if all(n.startswith(w) for n in names)), None)):
        names = {name.removeprefix(start): whole for name, whole in names.items()}
    return names


def _counts(expected: Mapping[str, Shape], pairs: Pairing, counts: set[str]) -> Pairing:
    """The counts of batches, beside the arrays of the same module."""
    found = {}
    for name in expected:
        module, _, leaf = name.rpartition(".")
        beside = pairs.get(f"{module}.running_mean", "").rpartition(".")[0]
        if leaf == COUNT and (count := f"{beside}.{COUNT}".lstrip(".")) in counts:
            found[name] = count
    return found


# -- by order and shape ------------------------------------------------------------------------------------------------


def _by_order(
    wanted: Mapping[str, Shape], arrays: Mapping[str, Shape], ordered: bool | None, branches: Collection[str]
) -> Pairing | None:
    """The pairs, if order and shape tell them; None if numbers or shapes differ, ValueError if several are left."""
    if len(wanted) != len(arrays):
        return None
    own, others = modules(wanted), modules(arrays)
    if _in_order(arrays, ordered) and _fits(wanted, arrays):
        pairs = dict(zip(wanted, arrays, strict=True))
        if (doubtful := _against_numbers(others)) is not None:
            raise ValueError(_ambiguous(*doubtful, _CONTRADICTS, pairs, arrays))
        return pairs
    return _by_shape(own, others, arrays, branches)


def modules(names: Mapping[str, Shape]) -> list[Module]:
    """The modules that arrays belong to, each where its first array stands."""
    found: dict[str, Module] = {}
    for name, shape in names.items():
        module, _, leaf = name.rpartition(".")
        found.setdefault(module, Module(module, {})).shapes[leaf] = shape
    return list(found.values())


def _in_order(arrays: Mapping[str, Shape], ordered: bool | None) -> bool:
    """Whether arrays come in the order of the module: in a dict they do, unless it was sorted by name.

    In a module's own order a bias follows its weight. Where no module has both, and nobody tells, sorted names might be
    either.
    """
    leaves = [[leaf for leaf in module.shapes if leaf in LEAVES] for module in modules(arrays)]
    if ordered is False or any(each != sorted(each, key=LEAVES.index) for each in leaves):
        return False
    return ordered is True or any(each != sorted(each) for each in leaves) or list(arrays) != sorted(arrays)


def _fits(wanted: Mapping[str, Shape], arrays: Mapping[str, Shape]) -> bool:
    """Whether arrays fit one after the other: in shape and, where their last names are PyTorch's, in these."""
    for (name, shape), (other, found) in zip(wanted.items(), arrays.items(), strict=True):
        leaf, given = name.rpartition(".")[2], other.rpartition(".")[2]
        if shape != found or (given != leaf and given in LEAVES):
            return False
    return True


def _against_numbers(others: Sequence[Module]) -> tuple[Module, Module] | None:
    """Two modules of one shape whose names' numbers contradict the order that they come in."""
    last: dict[tuple[object, str], Module] = {}
    for module in others:
        kind = module.signature, module.words
        before = last.get(kind)
        if before is not None and before.numbers > module.numbers and not _confirmed(before, module, others):
            return before, module
        last[kind] = module
    return None


def _confirmed(one: Module, other: Module, others: Sequence[Module]) -> bool:
    """Whether modules of two shapes, which have a place each, come in that order of numbers: conv3x3 before conv1x1."""
    parts = list(zip(one.name.split("."), other.name.split("."), strict=False))
    depth = next((i for i, (a, b) in enumerate(parts) if a != b), len(parts))
    if depth == len(parts):
        return False
    parent, (first, second) = [a for a, _ in parts[:depth]], (_split(name)[1] for name in parts[depth])
    behind: dict[str, Module] = {}
    for module in others:
        names = module.name.split(".")
        if names[:depth] == parent and len(names) > depth:
            words, numbers = _split(names[depth])
            if numbers == first:
                behind.setdefault(words, module)
            elif numbers == second and words in behind and behind[words].signature != module.signature:
                return True
    return False


def _by_shape(
    own: Sequence[Module], others: Sequence[Module], arrays: Mapping[str, Shape], branches: Collection[str]
) -> Pairing | None:
    """The pairs of modules whose arrays have the same names and shapes; of several alike, by their names' numbers."""
    if Counter(module.signature for module in own) != Counter(module.signature for module in others):
        return None
    match: dict[str, Module] = {}
    doubtful: tuple[Module, Module] | None = None
    for signature in dict.fromkeys(module.signature for module in own):
        left = [module for module in own if module.signature == signature]
        right = sorted((m for m in others if m.signature == signature), key=lambda m: (m.numbers, m.name))
        odd = next((module for module in right if module.words != right[0].words), None)
        doubtful = doubtful or (None if odd is None else (right[0], odd))
        match |= {one.name: other for one, other in zip(left, right, strict=True)}
    order = [match[module.name] for module in own]
    if len({module.signature for module in own}) < len(own):
        doubtful = doubtful or _contradiction(order)
    if doubtful is not None:
        found = _Orders(own, others, branches).found()
        if len(found) != 1:
            raise ValueError(_ambiguous(*doubtful, "nothing tells their order", _paired(own, order), arrays))
        order = found[0]
    return _paired(own, order)


def _paired(own: Sequence[Module], order: Sequence[Module]) -> Pairing:
    return {one.path(leaf): other.path(leaf) for one, other in zip(own, order, strict=True) for leaf in one.shapes}


def _contradiction(order: Sequence[Module]) -> tuple[Module, Module] | None:
    """Two modules whose order contradicts that of others with their numbers: bn1x1, bn3x3 where conv3x3 comes first."""
    children: dict[tuple[str, str], dict[tuple[int, ...], Module]] = {}  # by parent and words; then by their numbers
    for module in order:
        parts = module.name.split(".")
        for i, part in enumerate(parts):
            words, numbers = _split(part)
            children.setdefault((".".join(parts[:i]), words), {}).setdefault(tuple(numbers), module)
    first: dict[str, list[dict[tuple[int, ...], Module]]] = {}
    for (parent, _), found in children.items():
        if len(found) > 1:
            for before in first.setdefault(parent, []):
                places = {numbers: i for i, numbers in enumerate(before)}
                common = [numbers for numbers in found if numbers in places]
                for a, b in pairwise(common):
                    if places[a] > places[b]:
                        return found[a], found[b]
            first[parent].append(found)
    return None


_Relations = frozenset[tuple[str, str]]  # pairs of words, the first of which comes before the second
_State = tuple[list[dict[str, Any]], list[Module], _Relations]  # the modules that are open, innermost last; the order


class _Orders:
    """The orders in which modules whose order is lost fit the network's, as far as names tell a module's structure.

    What is in one module, ``layer1.0``, comes together. Within a module, names that differ in their number only come in
    the order of the numbers, and names of one number in the same order everywhere: ``conv1`` before ``bn1``, or after.
    """

    BUDGET = 20_000  # modules that are tried; beyond that, no order counts as found

    def __init__(self, own: Sequence[Module], others: Sequence[Module], branches: Collection[str] = ()):
        self.wanted = [module.signature for module in own]
        self.branches = {_places(branch, own) for branch in branches}
        self.tree: dict[str, Any] = {}  # a module's children by name; under "" the module itself
        for module in others:
            node = self.tree
            for part in module.name.split(".") if module.name else ():
                node = node.setdefault(part, {})
            node[""] = module
        self.tried = 0

    def found(self) -> list[list[Module]]:
        """At most two of the orders; of several, those whose shortcuts are branches of the network."""
        orders = self._search(False)
        return orders if len(orders) < 2 else self._search(True)

    def _search(self, strictly: bool) -> list[list[Module]]:
        self.tried = 0
        orders: list[list[Module]] = []
        states: list[_State] = [([self.tree], [], frozenset())]
        while states and len(orders) < 2:
            open_nodes, order, before = states.pop()
            while open_nodes and not open_nodes[-1]:
                open_nodes = open_nodes[:-1]
            if open_nodes:
                states += self._further(open_nodes, order, before, strictly)
            else:
                orders.append(order)
            if self.tried > self.BUDGET:
                return []
        return orders

    def _further(
        self, open_nodes: list[dict[str, Any]], order: list[Module], before: _Relations, strictly: bool
    ) -> Iterator[_State]:
        """The ways to go on from an order, one module further."""
        left = open_nodes[-1]
        for name in [""] if "" in left else left:
            self.tried += 1
            relations = self._relations(name, left)
            if relations is None or any((b, a) in before for a, b in relations):
                continue
            if strictly and name.strip("_0123456789") in BESIDE and not self._is_branch(left[name], len(order)):
                continue
            rest = [*open_nodes[:-1], {other: node for other, node in left.items() if other != name}]
            if name:
                yield [*rest, left[name]], order, before | relations
            elif left[""].signature == self.wanted[len(order)]:
                yield rest, [*order, left[""]], before

    def _is_branch(self, node: dict[str, Any], place: int) -> bool:
        """Whether what is in a module fills a branch of the network, if it comes at that place."""
        return (place, place + _count(node)) in self.branches

    @staticmethod
    def _relations(name: str, left: dict[str, Any]) -> set[tuple[str, str]] | None:
        """What it tells of the order of names that this one comes first of those left; None if numbers forbid it."""
        words, numbers = _split(name)
        found = set()
        for other_words, other_numbers in (_split(other) for other in left if other != name):
            if other_words == words and other_numbers < numbers:
                return None
            if other_numbers == numbers and numbers and other_words != words:
                found.add((words, other_words))
        return found


def _places(branch: str, own: Sequence[Module]) -> tuple[int, int]:
    """Where the modules of a branch begin and end among the network's."""
    inside = [i for i, module in enumerate(own) if f"{module.name}.".startswith(f"{branch}.")]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _count(node: dict[str, Any]) -> int:
    """How many modules there are in a module, itself included."""
    return sum(1 if name == "" else _count(child) for name, child in node.items())


_CONTRADICTS = "the order in which they come is not that of their numbers"
_TELLS = "Or give a dict straight from PyTorch, model.state_dict(), which comes in the module's order"


def _ambiguous(one: Module, other: Module, why: str, pairs: Pairing, arrays: Mapping[str, Shape]) -> str:
    lines = [f"  {name} <- {found} {arrays[found]}" for name, found in pairs.items()]
    more = [f"  and {len(lines) - SHOWN} more"] * (len(lines) > SHOWN)
    return "\n".join(
        [
            f"the names are not the network's, and it is not clear which array belongs where: {one.name} and "
            f"{other.name} have arrays of the same shapes, and {why}. They might be paired so:",
            *lines[:SHOWN],
            *more,
            "Give them under the names on the left, as portnn.torch.state_dict(network) has them: "
            f'{{"{next(iter(pairs))}": weights["{next(iter(pairs.values()))}"], ...}}'
            + f". {_TELLS}"
            * (why != _CONTRADICTS),
        ]
    )


# -- what does not fit -------------------------------------------------------------------------------------------------


def _misfit(name: str, wanted: Mapping[str, Shape], found: str, arrays: Mapping[str, Shape]) -> str | None:
    """Says that an array has another shape than the network's; None if it fits."""
    if wanted[name] == arrays[found]:
        return None
    called = found if found == name else f"{found}, for {name},"
    return f"{called} has shape {arrays[found]}, expected {wanted[name]}"


def _faults(wanted: Mapping[str, Shape], arrays: Mapping[str, Shape], pairs: Pairing) -> list[str]:
    """What is missing, misshapen and too much."""
    wrong = [fault for name, found in pairs.items() if (fault := _misfit(name, wanted, found, arrays))]
    missing = [f"{name} of shape {shape} is missing" for name, shape in wanted.items() if name not in pairs]
    taken = set(pairs.values())
    extra = [f"{name} of shape {shape} belongs to no layer" for name, shape in arrays.items() if name not in taken]
    return missing + wrong + extra


def _likely(wanted: Mapping[str, Shape], arrays: Mapping[str, Shape], ordered: bool | None) -> Pairing:
    """What most likely belongs together, for a list of faults: by name where names agree, else modules in order, with
    those left out that fit none."""
    both = [name for name in wanted if name in arrays]
    if 2 * len(both) >= min(len(wanted), len(arrays)):
        return {name: name for name in both}
    own, others = modules(wanted), modules(arrays)
    if not _in_order(arrays, ordered):
        others = sorted(others, key=lambda module: (module.numbers, module.words))
    pairs: Pairing = {}
    matcher = SequenceMatcher(None, [m.signature for m in own], [m.signature for m in others], autojunk=False)
    for _, a, b, c, d in matcher.get_opcodes():
        for one, other in zip(own[a:b], others[c:d], strict=False):
            pairs |= {one.path(leaf): other.path(leaf) for leaf in one.shapes if leaf in other.shapes}
    return pairs


def _listed(faults: Sequence[str]) -> str:
    more = [f"and {len(faults) - SHOWN} more"] * (len(faults) > SHOWN)
    return "\n  ".join(
        [
            "the arrays do not fit the network, which was left as it is; shapes are as in PyTorch:",
            *faults[:SHOWN],
            *more,
        ]
    )
