"""Networks as ONNX graphs: ``writing`` makes them, ``reading`` takes them; each imports onnx only when it is called."""
