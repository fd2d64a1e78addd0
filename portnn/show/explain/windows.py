"""Convolution and pooling, shown on one window; upsampling, and pooling over the whole image."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from portnn.show.explain.arithmetic import N, cell, equation, maximum, products, total
from portnn.show.explain.cells import Index, cells, grid, strongest
from portnn.show.explain.page import Grids, Section
from portnn.show.explain.trace import Pass

WIDEST = 7  # pixels: larger windows are not drawn as tables


# -- where the windows are ---------------------------------------------------------------------------------------------


def pixels(plan: Any, position: Index) -> list[tuple[int, Index]]:
    """The pixels of the image in the window of an output position, each with its number within the window."""
    found = []
    for k, starts in enumerate(plan.starts):
        place = tuple(
            first + s * o - before
            for first, s, o, (before, _) in zip(starts, plan.stride, position, plan.padding, strict=True)
        )
        if all(0 <= a < n for a, n in zip(place, plan.image, strict=True)):
            found.append((k, place))
    return found


def covering(plan: Any, pixel: Index) -> Iterator[tuple[int, Index]]:
    """The output positions in whose windows a pixel is, each with the pixel's number within that window."""
    for k, starts in enumerate(plan.starts):
        steps = [
            divmod(a + before - first, s)
            for a, first, s, (before, _) in zip(pixel, starts, plan.stride, plan.padding, strict=True)
        ]
        if all(rest == 0 and 0 <= o < m for (o, rest), m in zip(steps, plan.output, strict=True)):
            yield k, tuple(o for o, _ in steps)


def window_of(image: np.ndarray, plan: Any, position: Index) -> np.ndarray:
    """The window (h, w) of one channel, NaN where it reaches into the padding."""
    values = np.full(len(plan.starts), np.nan)
    for k, place in pixels(plan, position):
        values[k] = image[place]
    return values.reshape(plan.kernel)


def _drawn(plan: Any) -> bool:
    return len(plan.kernel) <= 2 and all(k <= WIDEST for k in plan.kernel)


# -- convolution -------------------------------------------------------------------------------------------------------


def conv_forward(at: Pass, section: Section) -> None:
    layer, W, B = at.layer, at.parameters["weights"], at.parameters.get("bias")
    plan, (i, u) = layer.plan, ("i, j", "u, v") if len(layer.plan.image) == 2 else ("i", "u")
    section.formula(
        f"Y[{i}, f] = {'B[f] + ' if B is not None else ''}sum over {u}, c of X[window at {i}][{u}, c] W[{u}, c, f]"
    )
    section.note(_geometry(layer))
    for place in cells(at.Y):
        *position, f = place
        found = pixels(plan, tuple(position))
        channels = _channels(layer, f)
        flat = W.reshape(len(plan.starts), W.shape[-2], W.shape[-1])
        seen = np.zeros((len(found), W.shape[-2]))  # the window's pixels and the filter's channels
        weights = np.zeros(seen.shape)
        for n, (k, pixel) in enumerate(found):
            seen[n], weights[n] = at.X[pixel][channels], flat[k, :, f]
        if place == strongest(at.Y) and _drawn(plan):
            _draw_window(at, section, tuple(position), f, seen, weights)
        summed = products(seen, weights)
        section.equation(equation(f"Y{cell(place)}", summed if B is None else summed + N(B[f]), at.Y[place]))


def _geometry(layer: Any) -> str:
    plan = layer.plan
    parts = [f"Filters of {' x '.join(map(str, plan.kernel))}", f"stride {' x '.join(map(str, plan.stride))}"]
    if plan.is_padded:
        sizes = {n for pair in plan.padding for n in pair}
        sides = [f"{before} before and {after} after" for before, after in plan.padding]
        parts.append(f"padding {min(sizes)} on each side" if len(sizes) == 1 else "padding " + ", ".join(sides))
    if layer.dilation not in (1, (1,), (1, 1)):
        parts.append(f"dilation {layer.dilation}")
    if layer.groups > 1:
        parts.append(f"{layer.groups} groups of channels and filters")
    filters, channels = layer.layer_depth, layer.input_shape[-1]
    count = f"{filters} filter{'s' * (filters > 1)} over {channels} channel{'s' * (channels > 1)}"
    return f"{', '.join(parts)}: {count}."


def _channels(layer: Any, f: int) -> slice:
    """The channels that filter f sees."""
    size = layer.input_shape[-1] // layer.groups
    group = f // (layer.layer_depth // layer.groups)
    return slice(group * size, (group + 1) * size)


def _draw_window(at: Pass, section: Section, position: Index, f: int, seen: np.ndarray, weights: np.ndarray) -> None:
    """The window, the filter and their products as tables, for the channel that contributes most."""
    plan = at.layer.plan
    local = int(np.abs((seen * weights).sum(axis=0)).argmax())
    c = _channels(at.layer, f).start + local
    window = window_of(at.X[..., c], plan, position)
    filter_ = at.parameters["weights"][..., local, f]
    of = f", the one of {seen.shape[1]} that contributes most," if seen.shape[1] > 1 else ""
    section.note(f"The window at {cell(position)} of channel {c}{of} times filter {f}, number by number:")
    product = np.where(np.isnan(window), 0.0, np.nan_to_num(window) * filter_)
    names = [f"X, channel {c}", f"W, filter {f}", "products"]
    grids = [grid(name, values) for name, values in zip(names, (window, filter_, product), strict=True)]
    section.blocks.append(Grids(grids, ["*", "->"]))


def conv_backward(at: Pass, section: Section) -> None:
    layer, W, D = at.layer, at.parameters["weights"], at.D
    plan, axes = layer.plan, "i, j" if len(layer.plan.image) == 2 else "i"
    flat = W.reshape(len(plan.starts), W.shape[-2], W.shape[-1])
    section.formula(
        f"dE/dX[pixel, c] = sum over {axes}, f of dE/dY[{axes}, f] W[place, c, f]",
        f"over the windows at {axes} in which the pixel is, at that place, and the filters f",
    )
    for place in cells(at.input_error):
        *pixel, c = place
        filters = _filters(layer, c)
        local = c % (layer.input_shape[-1] // layer.groups)
        found = list(covering(plan, tuple(pixel)))
        if not found:
            section.note(f"dE/dX{cell(place)} is 0: this pixel is in no window.")
            continue
        errors = np.array([D[position][filters] for _, position in found])
        weights = np.array([flat[k, local, filters] for k, _ in found])
        section.equation(equation(f"dE/dX{cell(place)}", products(errors, weights), at.input_error[place]))
    if "weights" in at.gradients:
        u = "u, v" if len(plan.image) == 2 else "u"
        section.formula(f"dE/dW[{u}, c, f] = sum over {axes} of X[window at {axes}][{u}, c] dE/dY[{axes}, f]")
        dW, padded = at.gradients["weights"], np.pad(at.X, [*plan.padding, (0, 0)])
        for place in cells(dW):
            *offset, local, f = place
            k = int(np.ravel_multi_index(tuple(offset), plan.kernel))
            seen = padded[(*plan.windows[k], _channels(layer, f).start + local)]
            section.equation(equation(f"dE/dW{cell(place)}", products(seen, D[..., f]), dW[place]))
    if "bias" in at.gradients:
        dB = at.gradients["bias"]
        section.formula(f"dE/dB[f] = sum over {axes} of dE/dY[{axes}, f]")
        for (f,) in cells(dB):
            section.equation(equation(f"dE/dB[{f}]", total(D[..., f]), dB[f]))


def _filters(layer: Any, c: int) -> slice:
    """The filters that see channel c."""
    size = layer.layer_depth // layer.groups
    group = c // (layer.input_shape[-1] // layer.groups)
    return slice(group * size, (group + 1) * size)


# -- pooling -----------------------------------------------------------------------------------------------------------


def pool_forward(at: Pass, section: Section, largest: bool) -> None:
    plan = at.layer.plan(at.X[None, ...])
    axes = "i, j" if len(plan.image) == 2 else "i"
    section.formula(f"Y[{axes}, c] = {'max' if largest else 'mean'} of the window at {axes} of channel c")
    for place in cells(at.Y):
        *position, c = place
        values = np.array([at.X[(*pixel, c)] for _, pixel in pixels(plan, tuple(position))])
        if place == strongest(at.Y) and _drawn(plan):
            window = np.atleast_2d(window_of(at.X[..., c], plan, tuple(position)))
            first = np.unravel_index(int(np.nanargmax(window)), window.shape)
            section.note(f"The window at {cell(position)} of channel {c}:")
            marked = [(int(first[0]), int(first[1]))] if largest else []
            answer = grid("Y", np.array([at.Y[place]]))
            section.blocks.append(Grids([grid(f"X, channel {c}", window, marked), answer], ["->"]))
        found = maximum(values) if largest else total(values) / values.size
        section.equation(equation(f"Y{cell(place)}", found, at.Y[place]))


def max_pool_forward(at: Pass, section: Section) -> None:
    pool_forward(at, section, True)


def max_pool_backward(at: Pass, section: Section) -> None:
    plan = at.layer.plan(at.X[None, ...])
    section.formula("dE/dX: each dE/dY goes to the largest pixel of its window, to the first of equal ones")
    for place in cells(at.input_error):
        *pixel, c = place
        errors = []
        for _, position in covering(plan, tuple(pixel)):
            inside = pixels(plan, position)
            winner = int(np.argmax([at.X[(*other, c)] for _, other in inside]))
            if inside[winner][1] == tuple(pixel):
                errors.append(at.D[(*position, c)])
        if errors:
            section.equation(equation(f"dE/dX{cell(place)}", total(errors), at.input_error[place]))
        else:
            section.note(f"dE/dX{cell(place)} is 0: this pixel is the largest of no window.")


def avg_pool_forward(at: Pass, section: Section) -> None:
    pool_forward(at, section, False)


def avg_pool_backward(at: Pass, section: Section) -> None:
    plan = at.layer.plan(at.X[None, ...])
    section.formula("dE/dX: each dE/dY is divided equally among the pixels of its window")
    for place in cells(at.input_error):
        *pixel, c = place
        positions = [position for _, position in covering(plan, tuple(pixel))]
        errors = [float(at.D[(*position, c)]) for position in positions]
        sizes = [len(pixels(plan, position)) for position in positions]
        if not errors:
            section.note(f"dE/dX{cell(place)} is 0: this pixel is in no window.")
            continue
        shares = [error / size for error, size in zip(errors, sizes, strict=True)]
        summed = total(shares, lambda i, e=errors, n=sizes: N(e[i]) / n[i])  # type: ignore[misc]
        section.equation(equation(f"dE/dX{cell(place)}", summed, at.input_error[place]))


def global_max_forward(at: Pass, section: Section) -> None:
    section.formula("Y[c] = max of channel c over the image")
    for (c,) in cells(at.Y):
        section.equation(equation(f"Y[{c}]", maximum(at.X[..., c]), at.Y[c]))


def global_max_backward(at: Pass, section: Section) -> None:
    section.formula("dE/dX: dE/dY[c] goes to the largest pixel of channel c, to the first of equal ones")
    for place in cells(at.input_error):
        *pixel, c = place
        image = at.X[..., c]
        if int(np.ravel_multi_index(tuple(pixel), image.shape)) == int(image.argmax()):
            section.equation(equation(f"dE/dX{cell(place)}", f"dE/dY[{c}]", at.input_error[place]))
        else:
            section.note(f"dE/dX{cell(place)} is 0: this pixel is not the largest of its channel.")


def global_avg_forward(at: Pass, section: Section) -> None:
    section.formula("Y[c] = mean of channel c over the image")
    for (c,) in cells(at.Y):
        image = at.X[..., c]
        section.equation(equation(f"Y[{c}]", total(image) / image.size, at.Y[c]))


def global_avg_backward(at: Pass, section: Section) -> None:
    section.formula("dE/dX[i, j, c] = dE/dY[c] / (number of pixels)")
    for place in cells(at.input_error):
        c = place[-1]
        size = at.X[..., c].size
        section.equation(equation(f"dE/dX{cell(place)}", N(at.D[c]) / size, at.input_error[place]))


def upsample_forward(at: Pass, section: Section) -> None:
    factors = at.layer.factors(at.X.ndim - 1)
    section.formula(f"Y: each pixel of X repeated, {' x '.join(map(str, factors))} times")
    for place in cells(at.Y):
        *pixel, c = place
        source = (*(i // r for i, r in zip(pixel, factors, strict=True)), c)
        section.equation(equation(f"Y{cell(place)}", f"X{cell(source)}", at.Y[place]))


def upsample_backward(at: Pass, section: Section) -> None:
    factors = at.layer.factors(at.X.ndim - 1)
    section.formula("dE/dX = sum of dE/dY over the copies of the pixel")
    for place in cells(at.input_error):
        *pixel, c = place
        copies = tuple(slice(i * r, (i + 1) * r) for i, r in zip(pixel, factors, strict=True))
        section.equation(equation(f"dE/dX{cell(place)}", total(at.D[(*copies, c)]), at.input_error[place]))
