"""Files that an attacker might make: each must be rejected with a clear error, quickly and in little memory.

``python hostile_files.py FOLDER`` writes and loads each of them, and prints one line of JSON per file: the seconds, the
increase of peak memory in bytes, what was executed or written, and the error.
"""

import json
import pickle
import sys
import time
from pathlib import Path

import numpy as np

from forged import ZEROS, forged, parts, raw, with_tensor
from portnn import ActivationLayer, Adam, BatchNormLayer, FCLayer, Network, StepDecay, load

HUGE = 2**20  # 2**20 x 2**20 elements of 4 bytes are 4 TB
EVENTS = ("exec", "compile", "import", "os.", "subprocess", "pickle", "marshal", "socket", "ctypes", "shutil", "code")
HARMLESS = {"os.listdir", "os.scandir", "os.fspath"}


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def good():
    net = Network([FCLayer(4, 3), BatchNormLayer(), ActivationLayer("tanh"), FCLayer(3, 2)], seed=1)
    net.use("mse", optimizer=Adam(StepDecay(0.1, 10, 0.5)), metrics=[])
    net.fit(np.ones((4, 4)), np.ones((4, 2)), epochs=2, batch_size=2, verbose=0)
    net.save(Path(sys.argv[1]) / "good")
    return (Path(sys.argv[1]) / "good").read_bytes()


def entry(name, **arguments):
    return {"class": name, "arguments": arguments, "children": [], "trainable": True}


def layers(*entries):
    """Replaces the layers in the file, and removes its tensors."""

    def change(about):
        about.update(layers=list(entries), optimizer=None, loss=None)

    return {"change": change, "tensors": only_metadata, "body": b""}


def only_metadata(header):
    for name in [name for name in header if name != "__metadata__"]:
        del header[name]


def sets(**values):
    return {"change": lambda about: about.update(values)}


def first_layer(**values):
    return {"change": lambda about: about["layers"][0].update(values)}


def first_tensor(**values):
    return {"tensors": lambda header: header["parameters/0.weights"].update(values)}


def nested(depth):
    inside = entry("FCLayer", input_size=1, output_size=1, initializer="zeros", bias=True)
    for _ in range(depth):
        inside = {**entry("SequentialLayer"), "children": [inside]}
    return inside


def body_with(data, more):
    return parts(data)[2] + b"\0" * more


def files(data):
    """The hostile files: name -> (contents, a pattern of the error message)."""
    header, about, body = parts(data)
    text = json.dumps(about)
    return {
        # other formats, and code
        "a pickle": (pickle.dumps(Evil()), "header"),
        "a pickle after a length": (len(pickle.dumps(Evil())).to_bytes(8, "little") + pickle.dumps(Evil()), "not valid"),
        "a pickle as metadata": (forged(data, about=pickle.dumps(Evil(), 0).decode()), "not valid"),
        "a zip": (b"PK\x03\x04" + b"\0" * 1000, "header"),
        "nothing": (b"", "too few"),
        "seven bytes": (b"1234567", "too few"),
        "an empty header": (raw("", b""), "not valid"),
        "a list as header": (raw("[]", b""), "JSON object"),
        "another program's file": (raw('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0000"), "no network"),
        "code as a class": (forged(data, **first_layer(**{"class": "__import__('os').system('touch hacked')"})), "does not have"),
        "a dotted class": (forged(data, **first_layer(**{"class": "os.system"})), "does not have"),
        "a class of the library that is no layer": (forged(data, **first_layer(**{"class": "Adam"})), "no layer's class"),
        "the base class": (forged(data, **first_layer(**{"class": "Layer"})), "does not have"),
        "an unknown class": (forged(data, **first_layer(**{"class": "Gain"})), r"layers=\[Gain\]"),
        "an unknown optimizer": (forged(data, **sets(optimizer={"class": "Popen", "arguments": {"args": "id"}})), "does not have"),
        "a layer as optimizer": (forged(data, **sets(optimizer={"class": "FCLayer", "arguments": {}})), "no value"),
        "an unknown function": (forged(data, **sets(loss={"loss": {"given": "eval"}, "prime": {"given": "exec"}})), "does not have"),
        "an unknown loss": (forged(data, **sets(loss="os.system")), "names the loss"),
        "an unknown metric": (forged(data, **sets(metrics=["../accuracy"])), "metric"),
        "code as an argument": (forged(data, **first_layer(arguments={"input_size": "print(1)", "output_size": 3})), "cannot be made"),
        "dunder arguments": (forged(data, **first_layer(arguments={"__class__": 3, "self": 4})), "cannot be made"),
        # paths
        "a path as a tensor": (forged(data, tensors=with_tensor("parameters/../../hacked", "F32", (1,), 4), body=body_with(data, 4)), "no layer"),
        "an absolute path": (forged(data, tensors=with_tensor("/tmp/hacked", "F32", (1,), 4), body=body_with(data, 4)), "nothing that portnn writes"),
        "a slot of no parameter": (forged(data, tensors=with_tensor("slots/mean/9.weights", "F32", (1,), 4), body=body_with(data, 4)), "no parameter"),
        "a misshapen slot": (forged(data, tensors=lambda h: h["slots/mean/0.weights"].update(shape=[3, 4])), "expected"),
        "a negative count": (forged(data, body=body.replace((4).to_bytes(8, "little"), b"\xff" * 8)), "number of updates"),
        # JSON
        "a deep header": (raw("[" * 100_000, b""), "not valid|nested"),
        "a deep header of objects": (raw('{"a":' * 60_000 + "1" + "}" * 60_000, b""), "nested"),
        "deep metadata": (forged(data, about='{"a":' * 500 + "1" + "}" * 500), "nested"),
        "many lists": (forged(data, about="[" + "[]," * 400_000 + "[]]"), "lists and objects"),
        "many numbers": (forged(data, about=text[:-1] + ',"x":[' + "0.1," * 2_000_000 + "1]}"), "values"),
        "the maximum number of values": (forged(data, about=text.replace('"Adam"', '"X"')[:-1] + ',"x":[' + "0.1," * 500_000 + "1]}"), "does not have"),
        "a long text": (forged(data, about=text.replace('"Adam"', '"' + "\\ud83d\\ude00" * 600_000 + '"')), "does not have"),
        "the maximum number of layers": (forged(data, **layers(*[entry("BatchNormLayer")] * 1_999, entry("X"))), "does not have"),
        "the maximum number of flatten layers": (forged(data, **layers(*[entry("FlattenLayer")] * 2_000) | {"body": b"1234"}), "behind"),
        "many layers, and one that does not fit": (forged(data, **layers(*[entry("FlattenLayer")] * 1_998, entry("ReshapeLayer", shape=[2]), entry("ReshapeLayer", shape=[3]))), "fit"),
        "a huge header": (raw(b" " * (17 << 20), b""), "bytes"),
        "a missing header": ((1 << 40).to_bytes(8, "little") + b"{}", "header would have"),
        "a header longer than the file": ((1 << 20).to_bytes(8, "little") + b"{}", "cut off"),
        "NaN as a number": (forged(data, about=text.replace('"step": 4', '"step": NaN')), "NaN"),
        "infinity as a number": (forged(data, about=text.replace('"step": 4', '"step": -Infinity')), "Infinity"),
        "an infinite number": (forged(data, about=text.replace('"step": 4', '"step": 1e999')), "too large"),
        "a number of many digits": (forged(data, about=text.replace('"step": 4', '"step": ' + "9" * 100_000)), "too large"),
        "a duplicate key": (forged(data, about='{"step":1,' + text[1:]), "occurs twice"),
        "a duplicate key among many": (raw("{" + ",".join(f'"{i}":0' for i in range(200_000)) + ',"199999":0}', b""), "occurs twice"),
        "no UTF-8": (raw(b'{"\xff":1}', b""), "not valid"),
        "text after the JSON": (forged(data, about=text + "{}"), "not valid"),
        # tensors
        "a duplicate tensor": (raw('{"w":{},"w":{},"__metadata__":{}}', b""), "occurs twice"),
        "overlapping tensors": (forged(data, tensors=overlap), "overlaps"),
        "a gap between tensors": (forged(data, tensors=gap, body=body_with(data, 4)), "gap"),
        "bytes after the tensors": (forged(data, body=body_with(data, 1)), "behind its tensors"),
        "missing tensor data": (forged(data, body=body[:-1]), "cut off"),
        "a shape of 4 TB": (forged(data, **first_tensor(shape=[HUGE, HUGE])), "bytes"),
        "offsets of 4 TB": (forged(data, **first_tensor(shape=[HUGE, HUGE], data_offsets=[0, 4 * HUGE**2])), "overlaps|gap|cut off"),
        "a shape that overflows": (forged(data, **first_tensor(shape=[2**32, 2**32, 0, 2**60])), "bytes"),
        "a negative size": (forged(data, **first_tensor(shape=[-4, -3])), "whole numbers"),
        "a fraction as size": (forged(data, **first_tensor(shape=[4.0, 3])), "whole numbers"),
        "many axes": (forged(data, **first_tensor(shape=[1] * 40 + [4, 3])), "at most"),
        "reversed offsets": (forged(data, **first_tensor(data_offsets=[48, 0])), "bytes"),
        "an unknown dtype": (forged(data, **first_tensor(dtype="O")), "dtype"),
        "a tensor that is a text": (forged(data, tensors=lambda h: h.update(x="y")), "no dtype"),
        # layers
        "a layer of 4 TB": (forged(data, **layers(entry("FCLayer", input_size=HUGE, output_size=HUGE))), "missing"),
        "a layer wider than its weights": (forged(data, change=lambda a: a["layers"][0]["arguments"].update(output_size=HUGE)), "fit|expected"),
        "more channels than could exist": (forged(data, **layers(entry("ReshapeLayer", shape=[2**39]), entry("BatchNormLayer"))), "missing"),
        "an immense window": (forged(data, **layers(entry("ReshapeLayer", shape=[4096, 4096, 1]), entry("MaxPoolLayer", window=[4096, 4096], stride=1, padding="valid"))), "positions"),
        "an immense window as a list": (forged(data, **layers(entry("MaxPoolLayer", window={"list": [4096, 4096]}))), "positions"),
        "an immense window by one number": (forged(data, **layers(entry("ReshapeLayer", shape=[4096, 4096, 1]), entry("MaxPoolLayer", window=4096))), "positions"),
        "many large windows": (forged(data, **layers(*[entry("MaxPoolLayer", window=[500, 500])] * 3)), "positions"),
        "a window of many axes": (forged(data, **layers(entry("MaxPoolLayer", window=[10**39] * 200_000))), "positions"),
        "shapes of many axes": (forged(data, **layers(*[entry("ReshapeLayer", shape=[2**40] * 50_000)] * 2)), "at most 32 axes"),
        "an immense kernel": (forged(data, **layers(entry("ConvLayer", input_shape=[4096, 4096, 1], kernel_shape=[4096, 4096], layer_depth=1))), "positions"),
        "many layers": (forged(data, **layers(*[entry("FlattenLayer")] * 20_000)), "2,000 layers"),
        "layers in layers": (forged(data, **layers(nested(200))), "nested"),
        "a layer that is a number": (forged(data, **layers(3)), "describes a layer"),
        "children of a layer that has none": (forged(data, **first_layer(children=[entry("FlattenLayer")])), "in it"),
        "a list that is a layer": (forged(data, change=lambda a: a["layers"].append([])), "describes a layer"),
        "lists of lists of layers": (forged(data, **layers({**entry("ParallelLayer", merge="concat"), "children": [[[[]]]]})), "describes a layer"),
        "groups that do not divide the channels": (forged(data, change=lambda a: a["layers"].__setitem__(1, entry("GroupNormLayer", groups=2))), "layer 1 has 3 channels in the file"),
        "text as trainable": (forged(data, **first_layer(trainable="no")), "describes a layer"),
        "layers that do not fit": (forged(data, change=lambda a: a["layers"].reverse()), "fit"),
        "a wrong shape for a layer": (forged(data, **first_tensor(shape=[3, 4])), "expected"),
        "integers as weights": (forged(data, **first_tensor(dtype="I32")), "0.weights holds int32, expected floating"),
        "booleans as slots": (forged(data, tensors=lambda h: h["slots/mean/3.bias"].update(dtype="BOOL", shape=[8])), "slots/mean/3.bias"),
        "integers as slots": (forged(data, tensors=lambda h: h["slots/mean/3.bias"].update(dtype="U32")), "slots/mean/3.bias holds uint32"),
        "a missing tensor": (forged(data, tensors=lambda h: h.update({"parameters/9.weights": h.pop("parameters/0.weights")})), "missing"),
        # numbers
        "a newer format": (forged(data, **sets(format=2, version="9.9")), "install portnn 9.9"),
        "no format": (forged(data, **sets(format=None)), "format"),
        "a format that is true": (forged(data, **sets(format=True)), "format"),
        "a negative step": (forged(data, **sets(step=-1)), "step"),
        "a huge step": (forged(data, **sets(step=2**60)), "step"),
        "a huge seed": (forged(data, **sets(seed=2**64)), "seed"),
        "an unknown dtype of the network": (forged(data, **sets(dtype="float16")), "dtype"),
        "a history of texts": (forged(data, **sets(history={"error": ["a"]})), "history"),
        "a history that is a list": (forged(data, **sets(history=[1])), "history"),
        "a history of nothing": (forged(data, **sets(history={})), "no error"),
        "a base class as a metric": (forged(data, **sets(metrics=[{"class": "ClassScore", "arguments": {}}])), "does not have"),
        "a base class as optimizer": (forged(data, **sets(optimizer={"class": "Optimizer", "arguments": {"learning_rate": 0.1}})), "does not have"),
        "a schedule as a metric": (forged(data, **sets(metrics=[{"class": "StepDecay", "arguments": {"learning_rate": 0.1, "every": 2, "factor": 0.5}}])), "StepDecay as a metric"),
        "a loss as a schedule": (forged(data, change=lambda a: a["optimizer"]["arguments"].update(learning_rate={"function": "mse"})), "mse as learning_rate of Adam"),
        "a loss as an activation": (forged(data, change=lambda a: a["layers"][2]["arguments"].update(activation={"class": "Huber", "arguments": {}})), "Huber as activation"),
        "an activation as a loss": (forged(data, **sets(loss={"loss": {"function": "tanh"}, "prime": {"function": "tanh"}})), "tanh as the loss"),
        "missing metadata": (forged(data, change=lambda a: a.pop("history")), "lack history"),
        "a callback that is a text": (forged(data, **sets(callbacks=["x"])), "callback"),
        "a callback with code": (forged(data, **sets(callbacks=[{"class": "x", "state": {"function": "eval"}}])), "no value"),
        "a learning rate of the wrong kind": (forged(data, change=lambda a: a["optimizer"]["arguments"].update(learning_rate={"dict": {}})), "cannot be made"),
        # the digest
        "a wrong digest": (data.replace(b'"sha256":"', b'"sha256":"0', 1)[:-1], "not valid|damaged|cut off|bytes"),
        "no digest": (raw(json.dumps(header | {"__metadata__": {"portnn": text}}), body), "lack"),
        "a digest that is a word": (raw(json.dumps(header | {"__metadata__": {"portnn": text, "sha256": "trust me"}}), body), "sha256"),
        "two digests": (raw(json.dumps(header | {"__metadata__": {"portnn": text, "sha256": ZEROS}, "x": {"sha256": "1" * 64}}, separators=(",", ":")), body), "dtype|damaged"),
    }  # fmt: skip


def overlap(header):
    first = header["parameters/0.weights"]["data_offsets"]
    header["x"] = {"dtype": "F32", "shape": [1], "data_offsets": [first[0] + 4, first[0] + 8]}


def gap(header):
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    header["x"] = {"dtype": "F32", "shape": [0], "data_offsets": [end + 4, end + 4]}


def peak():
    """The peak memory of this process so far, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(folder):
    data = good()
    load(folder / "good")
    watching, seen = [False], []

    def watch(event, arguments):
        if watching[0] and event not in HARMLESS and (event.startswith(EVENTS) or _writes(event, arguments)):
            seen.append(f"{event} {arguments!r:.80}")

    sys.addaudithook(watch)
    for i, (name, (contents, _)) in enumerate(files(data).items()):
        path = folder / f"{i}.safetensors"
        path.write_bytes(contents)
        del contents
        before, start, said, kind = peak(), time.perf_counter(), "", ""
        watching[0] = True
        try:
            load(path)
        except Exception as error:
            said, kind = str(error), type(error).__name__
        watching[0] = False
        report = dict(name=name, seconds=time.perf_counter() - start, memory=peak() - before, kind=kind, said=said)
        print(json.dumps(report | {"seen": seen}), flush=True)
        seen.clear()
        path.unlink()


def _writes(event, arguments):
    return event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
